"""Trained networks of the image codec on disk, and what names them in a file.

A workdir of scripts/train_vae.py or scripts/evaluate_compression.py has a VAE
for each beta and the fits of `gls_kmeans`, `lattice` and `list_quantiser`, a
file per number of codewords:

    model/vae.safetensors or model_beta_<beta>/vae.safetensors
    fits/gls_kmeans_<F>[_groups_<G>]_beta_<beta>.safetensors
    fits/lattice_<F>[_groups_<G>]_beta_<beta>.safetensors
    fits/list_quantiser_<F>[_bins_of_<M>].safetensors
    choice/<scheme>.json    beta, N and M that the evaluation chose

`SHIPPED` is such a folder, of MNIST digits.

Each file holds the sizes of its networks and a digest: nothing is built or
initialised to read one.

Legend: N candidates, K decoders, L messages, G groups, M codewords of a bin, F
codewords.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from listcoupling import files
from listcoupling.compression import codec, list_quantiser
from listcoupling.image_codec import bitstream
from listcoupling.image_codec import scheme as schemes
from listcoupling.models import codeword_decoder, vae

SHIPPED = pathlib.Path(__file__).parent / 'shipped'
SHIPPED_CODE = 'list_quantiser', 2, 16  # its only scheme, K and L
_FIT_NAME = re.compile(r'([a-z_]+)_(\d+)(?:_groups_(\d+))?(?:_bins_of_(\d+))?')
_CANDIDATES = 256  # where nothing says how many


class Trained(NamedTuple):
  """Networks of one scheme, as read or as made.

  Attributes:
    scheme: key of `scheme.SCHEMES`.
    model: the networks.
    digest: 32 bytes, of all that a decoder uses; names them in a file.
    num_candidates: N where none is given.
    side_kind: of `data.side_information.KINDS`, what a decoder knows.
    reach: see `reach_of`; None where it is not known.
  """

  scheme: str
  model: schemes.Model
  digest: bytes
  num_candidates: int = _CANDIDATES
  side_kind: str = 'crop'
  reach: float | None = None


def make_trained(
  scheme: str,
  model: schemes.Model,
  num_candidates: int = _CANDIDATES,
  side_kind: str = 'crop',
) -> Trained:
  """Names networks at hand.

  Args:
    scheme: key of `scheme.SCHEMES`.
    model: VAE, fit or both, as the scheme needs.
    num_candidates: N where `transport.encode` is given none.
    side_kind: what a decoder knows.

  Raises:
    ValueError: if the VAE and its fit are of other images, or a fit of
      gls_kmeans or lattice has no classifier.

  Example:
    >>> import jax
    >>> config = vae.VAEConfig((8, 4), (3, 3), kind='dense')
    >>> params = vae.init_params(jax.random.key(0), config)
    >>> model = schemes.Model(vae.networks(config), params)
    >>> len(make_trained('gls', model).digest)
    32
  """
  own = schemes.SCHEMES[scheme]
  if own.has_vae and own.has_fit and model.fit.classifier is None:
    raise ValueError(f'{scheme} needs a fit with a classifier; this has none.')
  parts = [part for part in (model.networks, model.fit) if part is not None]
  configs = [part.config for part in parts]
  for name in ('source_shape', 'side_shape', 'latent_size'):
    if len({getattr(config, name) for config in configs}) > 1:
      ours, theirs = (getattr(config, name) for config in configs)
      raise ValueError(f'the VAE has {name} {ours}, its fit {theirs}.')
  arrays = {'vae': model.params}
  if model.fit is not None:
    arrays['fit'] = dict(model.fit._asdict(), config=None)
  about = [scheme, *(dataclasses.asdict(config) for config in configs)]
  digest = bytes.fromhex(files.digest(arrays, about))
  return Trained(scheme, model, digest, num_candidates, side_kind)


def fit_path(
  workdir, scheme: str, count: int, beta=None, *, num_groups=1, bin_size=1
) -> pathlib.Path:
  """Where the fit of a scheme for F = `count` codewords is kept.

  Example:
    >>> fit_path('runs', 'gls_kmeans', 16, 2.).name
    'gls_kmeans_16_beta_2.safetensors'
  """
  beside = f'_groups_{num_groups}' if num_groups > 1 else ''
  beside += f'_bins_of_{bin_size}' if bin_size > 1 else ''
  beside += '' if beta is None else f'_beta_{beta:g}'
  name = f'{scheme}_{count}{beside}.safetensors'
  return pathlib.Path(workdir) / 'fits' / name


class FitFile(NamedTuple):
  """Contents of the file of a fit.

  Attributes:
    fit: the networks.
    num_decoders: every K that it was fitted for.
    num_candidates: N that it was fitted for.
    side_kind: what a decoder knows.
    mean_weight: of the mean decoder in the loss; None: not known.
    reach: see `reach_of`; None: not known.
    recipe: what else it was made of, by name; None: not known.
  """

  fit: schemes.Fit
  num_decoders: tuple[int, ...]
  num_candidates: int
  side_kind: str = 'crop'
  mean_weight: float | None = None
  reach: float | None = None
  recipe: Mapping[str, Any] | None = None


def write_fit(path, file: FitFile) -> None:
  """Writes a fit, whole or not at all, to `fit_path`; the folder is made."""
  about = file._asdict()
  fit = about.pop('fit')
  arrays = {'codewords': fit.codewords, 'decoder': fit.params}
  if fit.classifier is not None:
    arrays['classifier'] = fit.classifier
  sizes = dataclasses.asdict(fit.config)
  files.write_arrays(path, arrays, {'kind': 'fit', 'sizes': sizes, **about})


def read_fit(path) -> FitFile:
  """Reads a file of `write_fit`; its numbers become float32.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a damaged file, or one of another kind.
  """
  arrays, about = files.read_arrays(path)
  arrays = jax.tree.map(lambda x: x.astype(np.float32), arrays)
  try:
    config = codeword_decoder.CodewordDecoderConfig(**about['sizes'])
    fit = schemes.Fit(
      arrays['codewords'], arrays['decoder'], arrays.get('classifier'), config
    )
    return FitFile(
      fit, tuple(map(int, about['num_decoders'])), int(about['num_candidates']),
      about.get('side_kind', 'crop'), about.get('mean_weight'),
      about.get('reach'), about.get('recipe'),
    )  # fmt: skip
  except (KeyError, TypeError) as error:
    raise ValueError(f'{path} does not hold a fit ({error!r}).') from error


def _distances(codewords, images) -> np.ndarray:
  """Squared distance per pixel of images [R, ...] to their codewords: [R]."""
  flat = np.asarray(images, np.float32).reshape(len(images), -1)
  own = np.asarray(list_quantiser.nearest(flat, codewords))
  return np.mean((flat - np.asarray(codewords)[own]) ** 2, -1)


def reach_of(codewords, images) -> float:
  """How far from all codewords an image is that the codec was trained for.

  Args:
    codewords: [F, P].
    images: [R, ...] of P pixels, the training's.

  Returns:
    Squared distance per pixel to the nearest codeword, which one image of a
    thousand exceeds.
  """
  return float(np.quantile(_distances(codewords, images), 0.999))


def count_strange(trained: Trained, images) -> int:
  """How many images lie beyond the `reach_of` the codec; 0 if it is not known.

  Example:
    >>> count_strange(shipped_codec(), np.ones((3, 28, 14)))  # white
    3
  """
  if trained.reach is None:
    return 0
  distances = _distances(trained.model.fit.codewords, images)
  return int(np.sum(distances > trained.reach))


def _kept_fits(directory: pathlib.Path) -> str:
  """Words on the fits of a workdir: scheme, K and L of each; '' for none."""
  found = []
  for path in sorted(directory.glob('fits/*.safetensors')):
    parts = _FIT_NAME.match(path.name)
    if parts is None or parts[1] not in schemes.SCHEMES:
      continue
    count, *sizes = (int(x or 1) for x in parts.groups()[1:])
    for num_decoders in read_fit(path).num_decoders:
      each = schemes.SCHEMES[parts[1]].num_codewords(num_decoders, 1, *sizes)
      found.append(
        f'{path.name} (--scheme {parts[1]} --num_decoders {num_decoders} '
        f'--num_messages {count // each})'
      )
  return ', '.join(found)


def _making(directory, code, bin_size) -> str:
  """The command that adds a codec to a workdir."""
  words = f'scripts/train_vae.py --workdir {directory}'
  if schemes.SCHEMES[code.scheme].has_fit:
    words += (
      f' --scheme {code.scheme} --num_decoders {code.num_decoders} '
      f'--num_messages {code.num_messages}'
    )
  words += f' --num_groups {code.num_groups}' if code.num_groups > 1 else ''
  words += f' --bin_size {bin_size}' if bin_size > 1 else ''
  return f'{words}, with the same --config,'


def _vae_files(
  directory: pathlib.Path, making: str
) -> dict[float, pathlib.Path]:
  """beta -> file of its VAE."""
  places = [directory / 'model', directory, *directory.glob('model_beta_*')]
  found = [p / vae.FILE for p in places if (p / vae.FILE).is_file()]
  if not found:
    kept = _kept_fits(directory)
    remedy = (
      f'it holds {kept}. {making} adds what is missing'
      if kept
      else 'name the workdir of scripts/train_vae.py or '
      'scripts/evaluate_compression.py, or its model folder'
    )
    raise FileNotFoundError(
      f'{directory} holds no {vae.FILE}, the VAE that all schemes but '
      f'list_quantiser need; {remedy}. A training that was stopped goes on '
      'with its own command.'
    )
  if found[0].parent in places[:2]:
    found = found[:1]
  return {float(vae.load(path)[2].get('beta', np.nan)): path for path in found}


def _load_vae(scheme, path) -> Trained:
  params, config, about = vae.load(path)
  model = schemes.Model(vae.networks(config), params)
  return make_trained(scheme, model, side_kind=about.get('side_kind', 'crop'))


def _load_fitted(scheme, path, vae_path, num_decoders) -> Trained:
  kept = read_fit(path)
  fit, num_candidates = kept.fit, kept.num_candidates
  if num_decoders not in kept.num_decoders:
    raise ValueError(
      f'{path} is a fit for {list(kept.num_decoders)} decoders, not for '
      f'{num_decoders}; scripts/train_vae.py --scheme makes that in another '
      '--workdir.'
    )
  if vae_path is None:
    model, num_candidates = schemes.Model(fit=fit), len(fit.codewords)
  else:
    params, config, _ = vae.load(vae_path)
    model = schemes.Model(vae.networks(config), params, fit)
  trained = make_trained(scheme, model, num_candidates, kept.side_kind)
  return trained._replace(reach=kept.reach)


def _no_fit(directory, scheme, wanted: str, making: str) -> str:
  """Words on a folder without the fit of that name, and the remedy."""
  if not (directory / 'fits').is_dir():
    return (
      f'{directory} is no model for {scheme}: it has no folder fits; {making} '
      'makes one, scripts/evaluate_compression.py those of a table.'
    )
  return (
    f'{directory}/fits holds no {wanted}; it holds '
    f'{_kept_fits(directory) or "none"}. {making} makes one.'
  )


def _choices(
  directory, code, bin_size
) -> dict[float | None, Callable[[], Trained]]:
  """beta -> how to read the networks; None is the beta of list_quantiser."""
  making, scheme = _making(directory, code, bin_size), code.scheme
  own = schemes.SCHEMES[scheme]
  places = _vae_files(directory, making) if own.has_vae else {None: None}
  if not own.has_fit:
    return {
      beta: functools.partial(_load_vae, scheme, path)
      for beta, path in places.items()
    }
  count = own.num_codewords(*code[1:], bin_size)
  paths = {
    beta: fit_path(
      directory, scheme, count, beta, num_groups=code.num_groups,
      bin_size=bin_size,
    )
    for beta in places
  }  # fmt: skip
  found = {
    beta: functools.partial(
      _load_fitted, scheme, path, places[beta], code.num_decoders
    )
    for beta, path in paths.items()
    if path.is_file()
  }
  if not found:
    wanted = ' or '.join(path.name for path in paths.values())
    raise FileNotFoundError(_no_fit(directory, scheme, wanted, making))
  return found


class CodecSizes(NamedTuple):
  """Scheme and sizes of a codec.

  Attributes:
    scheme: key of `scheme.SCHEMES`; evaluations have more.
    num_decoders: K.
    num_messages: L.
    num_groups: G.
  """

  scheme: str
  num_decoders: int | None
  num_messages: int | None
  num_groups: int = 1


def check_code(code: CodecSizes, bin_size: int | None) -> None:
  """ValueError for sizes that are missing, below 1 or not for the scheme."""
  own = schemes.SCHEMES[code.scheme]
  for name, size in (*zip(code._fields[1:], code[1:]), ('bin_size', bin_size)):
    if size is None and name != 'bin_size' and own.has_fit:
      raise ValueError(
        f'{name} must be given for {code.scheme}, whose codebook is fitted for '
        'K decoders and L messages, got None.'
      )
    if size is not None and size < 1:
      raise ValueError(f'{name} must be at least 1, got {size}.')
  if own.has_bins:
    if code.num_groups != 1:
      raise ValueError(
        f'num_groups of a list quantiser must be 1, got {code.num_groups}: its '
        'decoders share no codeword.'
      )
    return
  if bin_size not in (None, 1):
    raise ValueError(f'bin_size of {code.scheme} must be 1, got {bin_size}.')
  if code.num_decoders is not None:
    codec.check_groups(code.num_groups, code.num_decoders)


class CodecSetting(NamedTuple):
  """Chosen by an evaluation for each scheme, K, L and G."""

  beta: float | None  # of the VAE; list_quantiser has none
  num_candidates: int | None  # N
  bin_size: int = 1  # M


def choice_path(workdir, scheme: str) -> pathlib.Path:
  """Where the settings that an evaluation chose are kept."""
  return pathlib.Path(workdir) / 'choice' / f'{scheme}.json'


def write_choice(path, chosen: Mapping[CodecSizes, CodecSetting]) -> None:
  """Writes the setting of each codec, whole or not at all."""
  # As lists: written as they stand they would be dictionaries.
  kept = [(list(code), list(setting)) for code, setting in chosen.items()]
  files.write_json(path, {'chosen': kept})


def read_choice(path) -> dict[CodecSizes, CodecSetting]:
  """Reads what `write_choice` wrote; nothing if there is no such file.

  Raises:
    ValueError: for a damaged file.
  """
  if not path.is_file():
    return {}
  try:
    return {
      CodecSizes(*code): CodecSetting(
        None if beta is None else float(beta), int(count), int(size)
      )
      for code, (beta, count, size) in files.read_json(path)['chosen']
    }
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged ({error!r}); name --beta, or evaluate again.'
    ) from error


def load_model(
  directory,
  *,
  scheme: str = 'gls',
  num_decoders: int | None = None,
  num_messages: int | None = None,
  num_groups: int = 1,
  bin_size: int | None = None,
  beta: float | None = None,
) -> Trained:
  """Reads what was trained and fitted; no image is needed.

  Args:
    directory: workdir of scripts/train_vae.py (or a model folder in it) or of
      scripts/evaluate_compression.py.
    scheme: key of `scheme.SCHEMES`.
    num_decoders: K; may be left out for gls alone.
    num_messages: L, likewise.
    num_groups: G, divides K.
    bin_size: M of a list quantiser; None takes the evaluation's choice, or 1.
    beta: of the VAE; None takes the evaluation's choice, or the only one.

  Returns:
    `Trained`. Its num_candidates is that of the fit; of gls what the evaluation
    chose together with beta for K and L, or 256 if beta is given or none was.

  Raises:
    FileNotFoundError: if there is no finished training or no such fit.
    ValueError: for a scheme or beta that is not there, no K or L for another
      scheme than gls, G that does not divide K, M > 1 of another scheme, or a
      damaged file.
  """
  if scheme not in schemes.SCHEMES:
    raise ValueError(
      f'scheme must be one of {tuple(schemes.SCHEMES)}, got {scheme!r}.'
    )
  directory = pathlib.Path(directory)
  code = CodecSizes(scheme, num_decoders, num_messages, num_groups)
  check_code(code, bin_size)
  kept, count = read_choice(choice_path(directory, scheme)), None
  setting = kept.get(code, CodecSetting(None, None))
  if bin_size is None:
    bin_size = setting.bin_size
  choices = _choices(directory, code, bin_size)
  if beta is None and None not in choices:
    beta, count = setting.beta, setting.num_candidates
  if beta is None and len(choices) == 1:
    beta = next(iter(choices))
  if beta not in choices:
    betas = sorted(choices) if None not in choices else 'none'
    raise ValueError(
      f'beta (--beta) must name a VAE of {directory} for {scheme}: {betas}, '
      f'got {beta}.'
    )
  trained = choices[beta]()
  if count is not None and not schemes.SCHEMES[scheme].has_fit:
    return trained._replace(num_candidates=count)
  return trained


def shipped_codec() -> Trained:
  """The codec of MNIST digits that the library ships.

  A list quantiser of 16 messages to 2 decoders, of right halves [28, 14]; a
  decoder knows the left half. Data and figures are in shipped/README.md.

  Example:
    >>> trained = shipped_codec()
    >>> trained.model.config.source_shape, trained.model.config.side_shape
    ((28, 14), (28, 14))
  """
  scheme, num_decoders, num_messages = SHIPPED_CODE
  return load_model(
    SHIPPED,
    scheme=scheme,
    num_decoders=num_decoders,
    num_messages=num_messages,
  )


def load_named(directory, container: bitstream.Container) -> Trained:
  """The networks that a file names by their digest.

  Args:
    directory: as for `load_model`, or `SHIPPED`.
    container: the file.

  Returns:
    `Trained`, with the digest of the file.

  Raises:
    bitstream.ModelError: if the folder has them not.
    FileNotFoundError, ValueError: as `load_model`.
  """
  c, found = container, []
  code = CodecSizes(*(getattr(c, name) for name in CodecSizes._fields))
  for load in _choices(pathlib.Path(directory), code, c.bin_size).values():
    trained = load()
    if trained.digest == c.model_digest:
      return trained
    found.append(trained.digest.hex()[:12])
  raise bitstream.ModelError(
    f'the file was made with model {c.model_digest.hex()[:12]}, {directory} '
    f'has {", ".join(found)}; decode with the model that encoded.'
  )
