"""Networks of the compressor, and what names them in a file.

`gls` needs a VAE; `cells` a VAE and a fit for its L; `list_quantiser` a fit
for its L K cells and no VAE. The digest of a model covers all that a decoder
uses, so a file names its networks whatever the scheme.

Legend: K decoders, L messages.
"""

from typing import Any, NamedTuple

from listcoupling.compression import container
from listcoupling.models import refiner_files, vae


class Model(NamedTuple):
  """Trained networks and what names them in a file.

  Attributes:
    networks: of the VAE; None for list_quantiser.
    params: theirs.
    digest: 32 bytes.
    refined: of cells and list_quantiser, else None.
    scheme: one of `container.SCHEMES`.
    num_candidates: N where `compress.encode` is given none.
  """

  networks: vae.Networks | None
  params: Any
  digest: bytes
  refined: refiner_files.Refined | None = None
  scheme: str = 'gls'
  num_candidates: int = 256

  @property
  def config(self):
    """Has `source_shape`, `side_shape` and `latent_size`."""
    return self.refined.config if self.refined else self.networks.config


def _sizes(config) -> dict[str, str]:
  return {name: str(value) for name, value in vars(config).items()}


def _arrays(refined) -> dict:
  return {k: v for k, v in refined._asdict().items() if k != 'config'}


def make_model(model_config: vae.VAEConfig, params) -> Model:
  """`Model` of a VAE at hand, for `gls`.

  Example:
    >>> import jax
    >>> config = vae.VAEConfig((8, 4), (3, 3), kind='dense')
    >>> model = make_model(config, vae.init_params(jax.random.key(0), config))
    >>> len(model.digest), model.scheme
    (32, 'gls')
  """
  digest = container.digest(params, _sizes(model_config))
  return Model(vae.networks(model_config), params, digest)


def make_cells_model(
  vae_model: Model, refined: refiner_files.Refined, num_candidates: int = 256
) -> Model:
  """`Model` of a VAE and a fit on it, for `cells`.

  Raises:
    ValueError: if they are of other images, or there is no classifier.
  """
  if refined.classifier is None:
    raise ValueError('cells need a fit with a classifier; this has none.')
  config = vae_model.networks.config
  for name in ('source_shape', 'side_shape', 'latent_size'):
    ours, theirs = getattr(config, name), getattr(refined.config, name)
    if ours != theirs:
      raise ValueError(f'the VAE has {name} {ours}, its fit {theirs}.')
  digest = container.digest(
    {'vae': vae_model.params, **_arrays(refined)},
    ['cells', _sizes(config), _sizes(refined.config)],
  )
  return Model(
    vae_model.networks, vae_model.params, digest, refined, 'cells',
    num_candidates,
  )  # fmt: skip


def make_list_model(refined: refiner_files.Refined) -> Model:
  """`Model` of a fit of L K cells, for `list_quantiser`."""
  settings = ['list_quantiser', _sizes(refined.config)]
  digest = container.digest(_arrays(refined), settings)
  count = len(refined.codewords)
  return Model(None, None, digest, refined, 'list_quantiser', count)
