"""Everything that is trained before the image table can be filled.

The VAEs, one per beta; then, for `gls_kmeans` and `list_quantiser`, codewords,
classifier and codeword decoder for each number of codewords. Everything is kept
in the workdir, as `image_codec.fits` says, and only read the next time.

Legend: R images, F codewords, K decoders, L messages, P pixels.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling import gumbel
from listcoupling.compression import list_quantiser
from listcoupling.data import images as image_data
from listcoupling.data import side_information
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder, vae
from listcoupling.training import codeword_decoder as training
from listcoupling.training import vae as vae_training


class Context(NamedTuple):
  """Shared by the fits."""

  config: Any  # of the experiment
  workdir: pathlib.Path  # where they are kept
  halves: dict[str, image_data.Halves]  # "train", "select", "test"
  models: dict[float, schemes.Model]  # beta -> VAE


class Trials(NamedTuple):
  """R images made ready for every K and L."""

  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w] crops of K decoders, the most there are
  prepared: schemes.Prepared | None


def betas_of(config) -> tuple[float, ...]:
  """`config.betas`, or the one beta of the training."""
  return tuple(config.betas) or (config.train.beta,)


def train_models(config, workdir) -> dict[float, schemes.Model]:
  """One VAE per beta, in `workdir`/model or `workdir`/model_beta_<beta>."""
  models = {}
  for beta in betas_of(config):
    train = ml_collections.ConfigDict(config.train.to_dict())
    train.beta = beta
    name = f'model_beta_{beta:g}' if config.betas else 'model'
    sizes, params = vae_training.train(train, pathlib.Path(workdir) / name)
    models[beta] = schemes.Model(vae.networks(sizes), params)
  return models


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _prepare(key, model, right, sides, *, name, settings):
  rows = jnp.arange(len(right), dtype=jnp.int32)
  return schemes.SCHEMES[name].prepare(
    key, rows, model, settings, images=right, sides=sides
  )


def prepare(
  key, name: str, model: schemes.Model, halves, num_decoders, num_candidates
) -> Trials:
  """Crops and candidates; image r depends on (key, r), the crops on no model.

  Args:
    key: typed key; reusable for other domains.
    name: of the scheme.
    model: its networks.
    halves: the images.
    num_decoders: K, the most that will be used.
    num_candidates: N.
  """
  right = jnp.asarray(halves.right)
  sides = side_information.random_crops(
    key, jnp.asarray(halves.left), num_decoders, model.config.side_shape
  )
  settings = schemes.Settings(num_candidates, num_decoders, None)
  prepared = _prepare(key, model, right, sides, name=name, settings=settings)
  return Trials(right, sides, prepared)


def _network_config(config) -> codeword_decoder.CodewordDecoderConfig:
  """Sizes that every fit of a table shares, so that one loop trains all."""
  model, most = config.train.model, max(config.num_decoders)
  return codeword_decoder.CodewordDecoderConfig(
    model.source_shape, model.side_shape,
    num_codewords=max(config.num_messages) * most,
    latent_size=model.latent_size,
    hidden_size=config.refine.hidden_size,
    side_features=model.side_features,
    max_decoders=most,
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _held(model, trials, num_messages, *, name, settings):
  """Crops of the first K decoders of all images; the rest repeat the first."""
  settings = settings._replace(num_messages=num_messages)
  scheme, count = schemes.SCHEMES[name], settings.num_decoders
  most = trials.sides.shape[1]
  encoding = scheme.encode(model, trials.prepared, trials.right, settings)
  prepared = trials.prepared
  if prepared is not None:
    weights = prepared.decoder_log_weights[:, :count]
    prepared = prepared._replace(decoder_log_weights=weights)
  decoding = scheme.decode(
    model, prepared, encoding.message, trials.sides[:, :count],
    jnp.arange(count, dtype=jnp.int32), settings,
  )  # fmt: skip

  def pad(x):
    return jnp.concatenate([x] + [x[:, :1]] * (most - count), 1)

  return pad(decoding.codeword), pad(decoding.latent)


def make_pool(
  name: str, model: schemes.Model, trials: Trials, counts, num_candidates
) -> training.Pool:
  """Outcomes for several list sizes, before the codeword decoder is trained.

  Args:
    name: of the scheme.
    model: with a fit whose params are None.
    trials: training images.
    counts: [C] list sizes K.
    num_candidates: N.
  """
  scheme, held = schemes.SCHEMES[name], []
  for count in counts:
    num_messages = len(model.fit.codewords) // scheme.num_codewords(count, 1, 1)
    settings = schemes.Settings(num_candidates, count, None)
    held.append(
      _held(model, trials, num_messages, name=name, settings=settings)
    )
  codewords, latents = (jnp.stack(x) for x in zip(*held))
  return training.Pool(
    jnp.asarray(counts, jnp.int32), trials.right, trials.sides, codewords,
    latents,
  )  # fmt: skip


def _classifier(key, model, trials, codewords, context):
  """Parameters of the labels of gls_kmeans."""
  mean, log_std = jax.jit(model.networks.encode)(model.params, trials.right)
  flat = trials.right.reshape(len(trials.right), -1)
  params, _ = training.train_classifier(
    key, mean, log_std, list_quantiser.nearest(flat, codewords),
    num_codewords=_network_config(context.config).num_codewords,
    steps=context.config.refine.classifier_steps,
  )  # fmt: skip
  return params


def _fit(context, name, model, trials, count, counts, beta=None):
  """The fit for F = `count` codewords and list sizes `counts`, or reads it."""
  path = fits.fit_path(context.workdir, name, count, beta)
  if path.exists():
    return fits.read_fit(path)[0]
  config, refine = _network_config(context.config), context.config.refine
  place = 0 if beta is None else betas_of(context.config).index(beta)
  key = gumbel.domain_key(
    _key(context), gumbel.Domain.FITS, list(schemes.SCHEMES).index(name), count,
    place,
  )  # fmt: skip
  flat = np.asarray(context.halves['train'].right)[: refine.num_kmeans]
  codewords = list_quantiser.fit_codewords(flat.reshape(len(flat), -1), count)
  classifier = None
  if beta is not None:
    classifier = _classifier(key, model, trials, codewords, context)
  fit = schemes.Fit(codewords, None, classifier, config)
  num_candidates = refine.num_candidates if beta is not None else count
  pool = make_pool(
    name, model._replace(fit=fit), trials, counts, num_candidates
  )
  params, _ = training.train(
    key, codewords.reshape(-1, *config.source_shape), pool, config=config,
    steps=refine.steps, batch_size=refine.batch_size,
    learning_rate=refine.learning_rate,
  )  # fmt: skip
  fit = fit._replace(params=jax.tree.map(np.asarray, params))
  fits.write_fit(
    path, fit, num_decoders=sorted(set(counts)), num_candidates=num_candidates
  )
  return fit


def _key(context):
  return gumbel.seed_key(context.config.train.seed)


def _list_counts(config, count) -> list[int]:
  """List sizes K for which F codewords are a wanted L * K."""
  counts = [
    k
    for k in config.num_decoders
    if count % k == 0 and count // k in set(config.num_messages)
  ]
  # Repeated to one length, so that every F runs the same compiled loop.
  return (counts * len(config.num_decoders))[: len(config.num_decoders)]


def fit_lists(context) -> dict[int, schemes.Model]:
  """F -> model of the list quantiser, for every L K of the table."""
  config, found = context.config, {}
  model = schemes.Model(
    fit=schemes.Fit(None, None, None, _network_config(config))
  )
  wanted = sorted(
    {n * k for n in config.num_messages for k in config.num_decoders}
  )
  trials = prepare(
    gumbel.domain_key(_key(context), gumbel.Domain.FITS), 'list_quantiser',
    model, context.halves['train'], max(config.num_decoders), 1,
  )  # fmt: skip
  for count in tqdm.tqdm(wanted, desc='list quantisers'):
    counts = _list_counts(config, count)
    fit = _fit(context, 'list_quantiser', model, trials, count, counts)
    found[count] = schemes.Model(fit=fit)
  return found


def fit_kmeans(context, beta) -> dict[int, schemes.Model]:
  """F -> model of gls_kmeans, for every L of the table, on one VAE."""
  config, model, found = context.config, context.models[beta], {}
  refine, name, trials = config.refine, 'gls_kmeans', None
  paths = [
    fits.fit_path(context.workdir, name, n, beta) for n in config.num_messages
  ]
  if not all(path.exists() for path in paths):
    halves = context.halves['train']
    trials = prepare(
      gumbel.domain_key(_key(context), gumbel.Domain.FITS), name, model,
      type(halves)(*(x[: refine.num_images] for x in halves)),
      max(config.num_decoders), refine.num_candidates,
    )  # fmt: skip
  for count in tqdm.tqdm(config.num_messages, desc=f'{name}, beta {beta:g}'):
    counts = tuple(config.num_decoders)
    fit = _fit(context, name, model, trials, count, counts, beta)
    found[count] = model._replace(fit=fit)
  return found
