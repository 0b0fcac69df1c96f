"""The codecs of one workdir: what their schemes learn, and what they deliver.

The VAEs, one per beta; then, for `gls_kmeans`, `lattice` and `list_quantiser`,
codewords, classifier and codeword decoder for each number of codewords, of
groups and of codewords in a bin; and, for each codec, the best beta, number of
candidates and size of a bin. What is there, as `image_codec.fits` says, is only
read; a fit that was made in another way is refused.

Legend: R images, N candidates, F codewords, K decoders, L messages, G groups, M
codewords of a bin, P pixels, D latent size, [H, W] source, [h, w] side.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling import files, gumbel, together, workdirs
from listcoupling.compression import list_quantiser
from listcoupling.data import side_information
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.fits import CodecSetting, CodecSizes
from listcoupling.models import codeword_decoder, vae
from listcoupling.training import codeword_decoder as training
from listcoupling.training import lattice_space
from listcoupling.training import vae as vae_training

# Fields of the training's config that say what fits learn from.
_DATA = 'dataset', 'num_held_out', 'flip', 'side_noise', 'seed'
_LEARNT_FROM = 0.875  # share of the images for means of a lattice


class Options(NamedTuple):
  """How fits learn."""

  num_images: int  # whose outcomes a codeword decoder learns from
  num_kmeans: int  # images that codewords are the means of
  num_candidates: int  # N
  classifier_steps: int
  steps: int  # of the codeword decoder
  batch_size: int
  learning_rate: float
  mean_weight: float  # of the mean decoder in the loss
  hidden_size: int  # of the codeword decoder


def family_of(code: CodecSizes) -> str:
  """Whose candidates and settings a codec shares.

  Evaluations have two beside `scheme.SCHEMES`: `shared_race`, the paper's
  baseline of gls, and `side_only`, what a VAE makes of side information alone.
  """
  return 'gls' if code.scheme == 'shared_race' else code.scheme


def needs_vae(names: Iterable[str]) -> bool:
  """Whether one of these schemes does; a list quantiser needs none."""
  own = (schemes.SCHEMES.get(name) for name in names)
  return any(each is None or each.has_vae for each in own)


def fitted_betas(config, name: str) -> tuple[float | None, ...]:
  """On the VAEs of which betas a scheme is fitted; None: on no VAE.

  Args:
    config: has `betas`, `train.beta` and `refine.betas`.
    name: of the scheme.
  """
  if not needs_vae([name]):
    return (None,)
  betas = tuple(config.refine.betas) or tuple(config.betas)
  return betas or (config.train.beta,)


def model_folders(
  train, betas: Sequence[float], workdir
) -> dict[float, pathlib.Path]:
  """Where `train_models` keeps the VAE of each beta; arguments as there."""
  workdir = pathlib.Path(workdir)
  if not betas:
    return {train.beta: workdir / 'model'}
  return {beta: workdir / f'model_beta_{beta:g}' for beta in betas}


def train_models(
  train, betas: Sequence[float], workdir, *, mesh=None
) -> dict[float, schemes.Model]:
  """One VAE per beta, in `workdir`/model_beta_<beta>.

  Args:
    train: config of `training.vae.train`.
    betas: if empty that of `train`, in `workdir`/model.
    workdir: a folder.
    mesh: shares the batches, see `training.vae.train`.
  """
  models = {}
  for beta, folder in model_folders(train, betas, workdir).items():
    own = ml_collections.ConfigDict(train.to_dict())
    own.beta = beta
    sizes, params = vae_training.train(own, folder, mesh=mesh)
    models[beta] = schemes.Model(vae.networks(sizes), params)
  return models


def fit_codec(
  config, workdir, code: CodecSizes, bin_size: int = 1, *, mesh=None
) -> dict[float | None, pathlib.Path]:
  """Fits one codec as a table of this config does, and trains its VAEs.

  Process 0 fits, on one device; the others make the same call. Another fit in
  the place of this one is refused before anything is trained.

  Args:
    config: of an image table, see configs/vae_digits.py.
    workdir: its fits/ holds the files, its model*/ the VAEs.
    code: the codec.
    bin_size: M.
    mesh: of the VAEs, see `train_models`.

  Returns:
    The file of each beta; nothing on other processes.

  Raises:
    ValueError: for settings that make no sense, a workdir that is in use or
      holds another fit, or processes with different arguments.
    FileNotFoundError: if the images are missing.
  """
  with together.agreed() as agree:
    vae_training.check_config(config.train)
    workdir = workdirs.as_folder(workdir)
    codecs_on = functools.partial(
      Codecs, config.train, workdir, vae_training.load_halves(config.train),
      options=config.refine, num_decoders=[code.num_decoders],
      num_messages=code.num_messages, bin_size=bin_size,
    )  # fmt: skip
    agree(config=config.to_json(), code=code, bin_size=bin_size)
  with workdirs.held(workdir):
    return _fit_codec(config, codecs_on, workdir, code, bin_size, mesh)


def _fit_codec(config, codecs_on, workdir, code, bin_size, mesh):
  """`fit_codec` in a workdir that nobody else writes in."""
  betas = fitted_betas(config, code.scheme)
  settings = [CodecSetting(beta, None, bin_size) for beta in betas]
  models = {}
  if needs_vae([code.scheme]):
    names = config.betas or (config.train.beta,)
    models = dict.fromkeys(names, schemes.Model())
  together.together(lambda: codecs_on(models=models).check({code: settings}))
  if models:
    models = train_models(config.train, config.betas, workdir, mesh=mesh)
  codecs, leads = codecs_on(models=models), together.leads()
  with together.all_or_none():
    if leads:
      codecs.fit({code: settings})
  size = _size(code, settings[0])
  paths = {b: _Fits(codecs, code.scheme, b).path(size) for b in betas}
  return paths if leads else {}


class Trials(NamedTuple):
  """R images made ready for every number of decoders up to K and every L."""

  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  prepared: schemes.Prepared | jax.Array | None  # see `scheme.Scheme`


class Sent(NamedTuple):
  """R images at K decoders."""

  images: jax.Array  # [R, K, H, W]
  error: jax.Array  # [R, K] squared error per pixel
  found: jax.Array  # [R, K] decoder holds the encoder's choice
  error_bound: jax.Array  # [R] on the chance that nobody finds it, or NaN


def make_trials(
  key, name: str, model: schemes.Model, halves, *, num_candidates: int,
  num_decoders: int, side_shape, side_kind: str = 'crop', side_noise=0.0,
) -> Trials:  # fmt: skip
  """Side information, which depends on no model, and candidates.

  Args:
    key: typed key; reusable for other domains.
    name: of the scheme.
    model: its networks.
    halves: `data.images.Halves` of R images.
    num_candidates: N.
    num_decoders: K, the most there will be.
    side_shape: (h, w) or (h, w, C).
    side_kind: of `data.side_information.KINDS`.
    side_noise: standard deviation of noise in it.
  """
  right = jnp.asarray(halves.right)
  sides = side_information.draw_sides(
    key, jnp.asarray(halves.left), right, num_decoders, tuple(side_shape),
    kind=side_kind, noise=side_noise,
  )  # fmt: skip
  settings = schemes.Settings(num_candidates, num_decoders, None)
  prepared = _prepare(key, model, right, sides, name=name, settings=settings)
  return Trials(right, sides, prepared)


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _prepare(key, model, right, sides, *, name, settings):
  rows = jnp.arange(len(right), dtype=jnp.int32)
  return schemes.SCHEMES[name].prepare(
    key, rows, model, settings, images=right, sides=sides
  )


def _transmit(model: schemes.Model, trials: Trials, settings, name: str):
  """Sends all images to the first K decoders.

  Args:
    model: networks and fit.
    trials: for at least K decoders.
    settings: `scheme.Settings`.
    name: of the scheme.

  Returns:
    The candidates of these decoders, `Encoding` and `Decoding`.
  """
  scheme, count = schemes.SCHEMES[name], settings.num_decoders
  prepared = trials.prepared
  if isinstance(prepared, schemes.Prepared):
    weights = prepared.decoder_log_weights[:, :count]
    prepared = prepared._replace(decoder_log_weights=weights)
  encoding = scheme.encode(model, prepared, trials.right, settings)
  decoding = scheme.decode(
    model, prepared, encoding.message, trials.sides[:, :count],
    jnp.arange(count, dtype=jnp.int32), settings,
  )  # fmt: skip
  return prepared, encoding, decoding


def _by_messages(function: Callable) -> Callable:
  """Compiles function(model, trials, settings, name) for all L at once.

  A lattice alone is made for one L.
  """

  @functools.partial(jax.jit, static_argnames=('settings', 'name'))
  def compiled(model, trials, num_messages, *, settings, name):
    if num_messages is not None:
      settings = settings._replace(num_messages=num_messages)
    return function(model, trials, settings, name)

  def call(model, trials, settings, name):
    num_messages = None
    if not schemes.SCHEMES[name].has_lattice:
      num_messages = settings.num_messages
      settings = settings._replace(num_messages=None)
    return compiled(model, trials, num_messages, settings=settings, name=name)

  return call


@_by_messages
def _send(model, trials, settings, name) -> Sent:
  """As `_transmit`: what decoders have, how far off it is, and the bound."""
  prepared, encoding, decoding = _transmit(model, trials, settings, name)
  found = decoding.index == encoding.index[:, None]
  bound = jnp.full(len(trials.right), jnp.nan, jnp.float32)
  if not schemes.SCHEMES[name].has_fit and not settings.shared_race:
    # Theorem 2 is about a race for each decoder and labels that know nothing.
    bound = schemes.error_bound(prepared, encoding.index, settings)
  error = training.squared_error(decoding.images, trials.right)
  return Sent(decoding.images, error, found, bound)


@_by_messages
def _held(model, trials, settings, name):
  """Crops of the first K decoders of all images; the rest repeat the first."""
  decoding = _transmit(model, trials, settings, name)[-1]
  missing = trials.sides.shape[1] - settings.num_decoders

  def pad(x):
    return jnp.concatenate([x] + [x[:, :1]] * missing, 1)

  # Without trained parameters images are what training starts from, or None.
  held = decoding.codeword, decoding.latent, decoding.images
  return jax.tree.map(pad, held)


def make_pool(
  name: str,
  model: schemes.Model,
  trials: Trials,
  counts: Sequence[int],
  num_candidates: int,
  *,
  num_groups: int = 1,
  bin_size: int = 1,
) -> training.Pool:
  """Outcomes for several list sizes, before the codeword decoder is trained.

  Args:
    name: of the scheme.
    model: with a fit whose params are None.
    trials: training images.
    counts: [C] list sizes K.
    num_candidates: N.
    num_groups: G.
    bin_size: M.
  """
  held = []
  for count in counts:
    num_messages = len(model.fit.codewords) // (
      schemes.SCHEMES[name].num_codewords(count, 1, num_groups, bin_size)
    )
    settings = schemes.Settings(
      num_candidates, count, num_messages, num_groups, bin_size=bin_size
    )
    held.append(_held(model, trials, settings, name))
  held = jax.tree.map(lambda *x: jnp.stack(x), *held)
  counts = jnp.asarray(counts, jnp.int32)
  return training.Pool(counts, trials.right, trials.sides, *held)


class Size(NamedTuple):
  """Sizes by which fits of one scheme and beta differ."""

  num_codewords: int  # F
  num_groups: int = 1  # G
  bin_size: int = 1  # M


class Codecs:
  """The codecs of one workdir: fitted, tried on many images, the best chosen.

  What is made here `image_codec.fits.load_model` reads.

  Args:
    train: config of `training.vae.train`, with the sizes of images and networks
      and what decoders know.
    workdir: a folder.
    halves: "train", of `training.vae.load_halves`.
    models: of `train_models`, {} where no scheme needs one.
    options: the fields of `Options`, maybe among others.
    num_decoders: every K.
    num_messages: the largest L.
    bin_size: the largest M.

  Raises:
    ValueError: an option is missing.
  """

  def __init__(
    self, train, workdir, halves, models, options: Mapping[str, Any], *,
    num_decoders: Sequence[int], num_messages: int, bin_size: int = 1,
  ):  # fmt: skip
    self.workdir, self.halves, self.models = workdir, halves, models
    missing = [name for name in Options._fields if name not in options]
    if missing:
      raise ValueError(f'options must have {", ".join(missing)}; see Options.')
    self.options = Options(*(options[name] for name in Options._fields))
    self.train = train
    self.num_counts = len(num_decoders)  # list sizes of a fit
    # Sizes for the largest fit: all have these, so that one loop trains all.
    self.network = codeword_decoder.CodewordDecoderConfig(
      train.model.source_shape, train.model.side_shape,
      num_codewords=num_messages * max(num_decoders) * bin_size,
      latent_size=train.model.latent_size,
      hidden_size=self.options.hidden_size,
      side_features=train.model.side_features, max_decoders=max(num_decoders),
    )  # fmt: skip
    self._fits = {}  # (scheme, beta) -> size -> model

  def fit(self, choices: Mapping[CodecSizes, Sequence[CodecSetting]]) -> None:
    """Fits what codecs need in their settings, or reads what was fitted.

    One fit serves all of one scheme, beta and number of codewords, whatever
    their K; a later call replaces the fits of its schemes.

    Raises:
      ValueError: G or M cannot be those of a scheme, a beta has no VAE, or as
        `check`.
    """
    for each, sizes in self._wanted(choices).items():
      self._fits[each] = _Fits(self, *each).models(sizes)

  def check(self, choices: Mapping[CodecSizes, Sequence[CodecSetting]]) -> None:
    """ValueError where the workdir has another fit in the place of one."""
    for each, sizes in self._wanted(choices).items():
      _Fits(self, *each).kept(sizes)

  def _wanted(self, choices) -> dict[tuple, dict['Size', tuple[int, ...]]]:
    """(scheme, beta) -> size -> every K, in the order of L."""
    wanted = {}
    for code in sorted(choices, key=lambda code: code.num_messages):
      own = schemes.SCHEMES.get(family_of(code))
      if own is None or not own.has_fit:  # a VAE is enough
        continue
      for setting in choices[code]:
        fits.check_code(code, setting.bin_size)
        if setting.beta not in (None, *self.models):
          raise ValueError(
            f'{code.scheme} needs a VAE of beta {setting.beta:g}, those here '
            f'are of {[*self.models]}.'
          )
        sizes = wanted.setdefault((code.scheme, setting.beta), {})
        counts = sizes.setdefault(_size(code, setting), {})
        counts[code.num_decoders] = True
    return {
      each: {size: tuple(counts) for size, counts in sizes.items()}
      for each, sizes in wanted.items()
    }

  def prepare(
    self, key, halves, code: CodecSizes, setting: CodecSetting
  ) -> Trials:
    """Sides and candidates; the sides depend on the key alone."""
    family = family_of(code)
    if family == 'side_only':
      family = 'list_quantiser'  # has no candidates
    return self.trials(
      key, family, setting.beta, halves, setting.num_candidates
    )

  def trials(self, key, name, beta, halves, num_candidates) -> Trials:
    """Side information and candidates for every K, see `make_trials`."""
    return make_trials(
      key, name, self.models.get(beta, schemes.Model()), halves,
      num_candidates=num_candidates, num_decoders=self.network.max_decoders,
      side_shape=self.network.side_shape, side_kind=self.train.side_kind,
      side_noise=self.train.side_noise,
    )  # fmt: skip

  def send(
    self, code: CodecSizes, trials: Trials, setting: CodecSetting
  ) -> Sent:
    """One codec, on trials made for it."""
    family = family_of(code)
    if family == 'side_only':
      model = self.models[setting.beta]
      return _answer_sides(model, trials, code.num_decoders)
    if not schemes.SCHEMES[family].has_fit:
      model = self.models[setting.beta]
    else:
      model = self._fits[code.scheme, setting.beta][_size(code, setting)]
    settings = schemes.Settings(
      num_candidates=setting.num_candidates,
      num_decoders=code.num_decoders,
      num_messages=code.num_messages,
      num_groups=code.num_groups,
      shared_race=code.scheme == 'shared_race',
      bin_size=setting.bin_size,
    )
    return _send(model, trials, settings, family)

  def send_all(
    self,
    key,
    halves,
    codes: Iterable[tuple[CodecSizes, CodecSetting]],
    name=None,
  ) -> Iterator[tuple[CodecSizes, CodecSetting, Sent]]:
    """Sends images by codecs of one family; those of a setting share trials.

    Args:
      key: typed key; reusable for other domains.
      halves: `data.images.Halves` of R images.
      codes: codecs and their settings.
      name: of the progress bar; None: none.
    """
    by_setting = {}
    for code, setting in codes:
      by_setting.setdefault(setting, []).append(code)
    for setting in tqdm.tqdm(sorted(by_setting), desc=name, disable=not name):
      own = by_setting[setting]
      trials = self.prepare(key, halves, own[0], setting)
      for code in own:
        yield code, setting, self.send(code, trials, setting)

  def choose(
    self, key, halves, choices: Mapping[CodecSizes, Sequence[CodecSetting]]
  ) -> dict[CodecSizes, CodecSetting]:
    """For each codec the setting whose best decoder errs least; kept.

    A choice that was kept is made again where it is not among the settings.

    Args:
      key: typed key, of no images that judge the choice afterwards.
      halves: images, held out from training; None: the first is taken.
      choices: settings of each codec, all of one family.
    """
    (family,) = {family_of(code) for code in choices}
    if family not in schemes.SCHEMES:  # side_only: one, which no codec reads
      return {code: settings[0] for code, settings in choices.items()}
    path = fits.choice_path(self.workdir, family)
    chosen = fits.read_choice(path)
    left = {c: own for c, own in choices.items() if chosen.get(c) not in own}
    if left:
      chosen |= self._best(key, halves, left)
      fits.write_choice(path, chosen)
    return {code: chosen[code] for code in choices}

  def _best(self, key, halves, choices) -> dict[CodecSizes, CodecSetting]:
    chosen = {code: settings[0] for code, settings in choices.items()}
    if halves is None or max(map(len, choices.values())) == 1:
      return chosen
    least = dict.fromkeys(choices, np.inf)
    codes = [(code, x) for code, settings in choices.items() for x in settings]
    for code, setting, sent in self.send_all(
      key, halves, codes, 'choice of settings'
    ):
      error = float(np.asarray(sent.error).min(1).mean())
      if error < least[code]:
        least[code], chosen[code] = error, setting
    return chosen


def _size(code: CodecSizes, setting: CodecSetting) -> Size:
  count = schemes.SCHEMES[code.scheme].num_codewords(
    code.num_decoders, code.num_messages, code.num_groups, setting.bin_size
  )
  return Size(count, code.num_groups, setting.bin_size)


@functools.partial(jax.jit, static_argnames='num_decoders')
def _answer_sides(model, trials: Trials, num_decoders: int) -> Sent:
  """Answers of a VAE to side information alone."""
  sides = trials.sides
  images = model.networks.side_only(
    model.params, sides.reshape(-1, *sides.shape[2:])
  )
  images = images.reshape(*sides.shape[:2], *trials.right.shape[1:])
  images = images[:, :num_decoders]
  error = training.squared_error(images, trials.right)
  missing = jnp.full_like(error, jnp.nan)
  return Sent(images, error, missing, missing[:, 0])


def _known(file: fits.FitFile) -> dict[str, Any]:
  """Settings of a fit by name, as JSON has them; None: not known."""
  about = {
    'num_decoders': file.num_decoders,
    'side_kind': file.side_kind,
    'mean_weight': file.mean_weight,
    **dataclasses.asdict(file.fit.config),
    **(file.recipe or {}),
  }
  return files.plain(about)


class _Fits:
  """Fits of a scheme on the VAE of one beta, if it has one; made or read.

  What they share is made for the first one that is missing.

  Args:
    codecs: whose they are.
    name: of the scheme.
    beta: of the VAE; None for list_quantiser.
  """

  def __init__(self, codecs: Codecs, name: str, beta: float | None):
    self._codecs, self._name, self._beta = codecs, name, beta
    self._scheme = schemes.SCHEMES[name]
    self._model = codecs.models.get(beta, schemes.Model())
    self._key = gumbel.seed_key(codecs.train.seed)

  def models(
    self, wanted: Mapping[Size, tuple[int, ...]]
  ) -> dict[Size, schemes.Model]:
    """The model of each size, for the list sizes K that use it."""
    kept = self.kept(wanted)
    return {
      size: self._model._replace(fit=kept.get(size) or self._fit(size, counts))
      for size, counts in tqdm.tqdm(wanted.items(), desc=self._name)
    }

  def kept(
    self, wanted: Mapping[Size, tuple[int, ...]]
  ) -> dict[Size, schemes.Fit]:
    """Fits that are there; ValueError if one was for or from other things."""
    found = {}
    for size, counts in wanted.items():
      path = self.path(size)
      if path.exists():
        file = fits.read_fit(path)
        known, own = _known(file), _known(self._file(size, counts))
        changed = [
          name
          for name in files.differences(known, own)
          if None not in (known.get(name), own.get(name))
        ]
        if changed:
          raise ValueError(
            f'{path} is another fit: {files.describe(known, own, changed)}; '
            'choose another workdir, or move it away if no file needs it.'
          )
        found[size] = file.fit
    return found

  def path(self, size: Size) -> pathlib.Path:
    return fits.fit_path(
      self._codecs.workdir, self._name, size.num_codewords, self._beta,
      num_groups=size.num_groups, bin_size=size.bin_size,
    )  # fmt: skip

  def _file(self, size: Size, counts) -> fits.FitFile:
    """Of a fit that is not yet made: what decides about it."""
    codecs, vae_digest = self._codecs, None  # no VAE, or not trained yet
    if self._model.params is not None:
      vae_digest = files.digest(self._model.params)
    recipe = codecs.options._asdict() | {
      'list_sizes': self._list_sizes(counts),
      'key': self._numbers(size),
      'vae_digest': vae_digest,
      **{name: codecs.train[name] for name in _DATA},
    }
    return fits.FitFile(
      schemes.Fit(None, None, None, codecs.network),
      tuple(sorted(set(counts))), codecs.options.num_candidates,
      codecs.train.side_kind, codecs.options.mean_weight, recipe=recipe,
    )  # fmt: skip

  def _list_sizes(self, counts: tuple[int, ...]) -> tuple[int, ...]:
    """All of one length, so that every fit runs one compiled loop."""
    if self._scheme.has_lattice:
      return counts
    return (counts * self._codecs.num_counts)[: self._codecs.num_counts]

  def _fit(self, size: Size, counts) -> schemes.Fit:
    codecs, options = self._codecs, self._codecs.options
    key = self._key_of(size)
    if self._scheme.has_lattice:
      begun = self._begin_lattice(size, *counts)
    else:
      begun = self._begin_codewords(size, key)
    fit, num_candidates, images = begun
    pool = make_pool(
      self._name, self._model._replace(fit=fit), self._trials,
      self._list_sizes(counts), num_candidates, num_groups=size.num_groups,
      bin_size=size.bin_size,
    )  # fmt: skip
    params, _ = training.train(
      key, images.reshape(-1, *codecs.network.source_shape), pool,
      config=codecs.network, steps=options.steps,
      batch_size=options.batch_size, learning_rate=options.learning_rate,
      mean_weight=options.mean_weight,
    )  # fmt: skip
    fit = fit._replace(params=jax.tree.map(np.asarray, params))
    file = self._file(size, counts)._replace(
      fit=fit, num_candidates=num_candidates, reach=self._reach(fit.codewords)
    )
    fits.write_fit(self.path(size), file)
    return fit

  def _reach(self, codewords) -> float | None:
    """Of codewords of the source; those of a lattice are latents."""
    if self._scheme.has_lattice:
      return None
    return fits.reach_of(codewords, self._trials.right)

  def _key_of(self, size: Size) -> jax.Array:
    return gumbel.domain_key(
      self._key, gumbel.Domain.FITS, *self._numbers(size)
    )

  def _numbers(self, size: Size) -> tuple[int, ...]:
    beta = 0
    if self._beta is not None:
      beta = list(self._codecs.models).index(self._beta)
    numbers = self._scheme.number, size.num_codewords, beta
    if size[1:] != (1, 1):
      numbers += size[1:]
    return numbers

  @functools.cached_property
  def _trials(self) -> Trials:
    """Training images; codewords alone take all of them."""
    halves, options = self._codecs.halves['train'], self._codecs.options
    count, num_candidates = None, 1
    if self._beta is not None:
      count, num_candidates = options.num_images, options.num_candidates
    key = gumbel.domain_key(self._key, gumbel.Domain.FITS)
    halves = type(halves)(*(x[:count] for x in halves))
    return self._codecs.trials(
      key, self._name, self._beta, halves, num_candidates
    )

  def _begin_codewords(self, size: Size, key):
    """A fit without params, N, and images [F, P] its decoder begins with."""
    codecs, trials = self._codecs, self._trials
    network, options = codecs.network, codecs.options
    num_candidates, classifier = size.num_codewords, None
    train = codecs.halves['train'].right[: options.num_kmeans]
    words = list_quantiser.fit_codewords(
      np.asarray(train).reshape(len(train), -1), size.num_codewords
    )
    own = list_quantiser.nearest(
      trials.right.reshape(len(trials.right), -1), words
    )
    if self._beta is not None:
      num_candidates = options.num_candidates
      latent = jax.jit(self._model.networks.encode)(
        self._model.params, trials.right
      )
      classifier, _ = training.train_classifier(
        key, *latent, own, num_codewords=network.num_codewords,
        steps=options.classifier_steps,
      )  # fmt: skip
    elif size.bin_size > 1:
      classifier, _ = training.train_side_classifier(
        key, trials.sides, own, config=network,
        steps=options.classifier_steps,
      )  # fmt: skip
    fit = schemes.Fit(words, None, classifier, network)
    return fit, num_candidates, words

  def _begin_lattice(self, size: Size, num_decoders: int):
    """As `_begin_codewords`; the VAE has the first word, so one grey image."""
    (count, groups, _), network = size, self._codecs.network
    settings = schemes.Settings(1, num_decoders, count // groups, groups)
    space = lattice_space.choose(self._spaces, self._model, settings)
    words = schemes.lattice_code(settings, network.latent_size).leaders
    fit = schemes.Fit(words.astype(np.float32), None, space._asdict(), network)
    grey = np.full((1, *network.source_shape), 0.5)
    return fit, count << network.latent_size, grey

  @functools.cached_property
  def _spaces(self) -> lattice_space.Choices:
    """One network of the means serves all places of a lattice."""
    right, sides = self._trials.right, self._trials.sides
    network = self._codecs.network
    key = gumbel.domain_key(self._key, gumbel.Domain.FITS, self._scheme.number)
    latents, log_std = jax.jit(self._model.networks.encode)(
      self._model.params, right
    )
    cut = int(_LEARNT_FROM * len(right))
    mean, _ = training.train_side_means(
      key, sides[:cut], latents[:cut], config=network,
      steps=self._codecs.options.classifier_steps,
    )  # fmt: skip
    return lattice_space.prepare(
      key, mean, right[cut:], sides[cut:], latents[cut:],
      np.exp(np.mean(np.asarray(log_std, np.float64), 0)), network,
    )  # fmt: skip
