"""Everything that is trained before the image table can be filled.

The VAEs, one per beta; then, for `gls_kmeans`, `lattice` and `list_quantiser`,
codewords, classifier and codeword decoder for each number of codewords, of
groups and of codewords in a bin. Everything is kept in the workdir, as
`image_codec.fits` says, and only read the next time.

Where a lattice lies in the latent space is chosen on images. A network learns
the mean of the latent given side information; what it leaves open, and how much
of a latent a pixel feels, give the axes. The period and how far the axes are
stretched are those with the least error of the best decoder, by the VAE's own
decoder, on images that the network never saw.

Legend: R images, F codewords, K decoders, L messages, G groups, M codewords of
a bin, P pixels, D latent size, S settings of a lattice, [H, W] source, [h, w]
side.
"""

import functools
import itertools
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
  sides: jax.Array  # [R, K, h, w] of K decoders, the most there are
  prepared: schemes.Prepared | None


def betas_of(config) -> tuple[float, ...]:
  """`config.betas`, or the one beta of the training."""
  return tuple(config.betas) or (config.train.beta,)


def train_models(config, workdir, *, mesh=None) -> dict[float, schemes.Model]:
  """One VAE per beta, in `workdir`/model or `workdir`/model_beta_<beta>.

  None where no scheme of the table needs one. A mesh shares the batches, see
  `training.vae.train`.
  """
  models = {}
  if set(config.schemes) == {'list_quantiser'}:
    return models
  for beta in betas_of(config):
    train = ml_collections.ConfigDict(config.train.to_dict())
    train.beta = beta
    name = f'model_beta_{beta:g}' if config.betas else 'model'
    sizes, params = vae_training.train(
      train, pathlib.Path(workdir) / name, mesh=mesh
    )
    models[beta] = schemes.Model(vae.networks(sizes), params)
  return models


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _prepare(key, model, right, sides, *, name, settings):
  rows = jnp.arange(len(right), dtype=jnp.int32)
  return schemes.SCHEMES[name].prepare(
    key, rows, model, settings, images=right, sides=sides
  )


def prepare(
  key, name: str, model: schemes.Model, halves, config, num_candidates
) -> Trials:
  """Side information and candidates; image r depends on (key, r).

  The side information depends on no model.

  Args:
    key: typed key; reusable for other domains.
    name: of the scheme.
    model: its networks.
    halves: the images.
    config: of the experiment: what side information, and for how many.
    num_candidates: N.
  """
  most, train = max(config.num_decoders), config.train
  right = jnp.asarray(halves.right)
  sides = side_information.draw_sides(
    key, jnp.asarray(halves.left), right, most, tuple(train.model.side_shape),
    kind=train.side_kind, noise=train.side_noise,
  )  # fmt: skip
  settings = schemes.Settings(num_candidates, most, None)
  prepared = _prepare(key, model, right, sides, name=name, settings=settings)
  return Trials(right, sides, prepared)


def unfitted(config) -> schemes.Model:
  """A list quantiser without codewords: enough for its side information."""
  return schemes.Model(
    fit=schemes.Fit(None, None, None, _network_config(config))
  )


def _network_config(config) -> codeword_decoder.CodewordDecoderConfig:
  """Sizes that every fit of a table shares, so that one loop trains all."""
  model, most = config.train.model, max(config.num_decoders)
  return codeword_decoder.CodewordDecoderConfig(
    model.source_shape, model.side_shape,
    num_codewords=max(config.num_messages) * most * max(config.bin_sizes),
    latent_size=model.latent_size,
    hidden_size=config.refine.hidden_size,
    side_features=model.side_features,
    max_decoders=most,
  )  # fmt: skip


def transmit(model, trials, settings, *, name):
  """Sends all images to the first K decoders.

  Args:
    model: networks and fit.
    trials: for at least K decoders.
    settings: of the scheme.
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


def split_messages(name: str, settings: schemes.Settings, num_messages: int):
  """L for an argument of a compiled function, and settings that lack it.

  A lattice is made for one L: there the settings have it.
  """
  if name == 'lattice':
    return None, settings._replace(num_messages=num_messages)
  return num_messages, settings


def join_messages(settings: schemes.Settings, num_messages):
  """Settings with L, from what `split_messages` gave."""
  if num_messages is None:
    return settings
  return settings._replace(num_messages=num_messages)


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _held(model, trials, num_messages, *, name, settings):
  """Crops of the first K decoders of all images; the rest repeat the first."""
  settings = join_messages(settings, num_messages)
  decoding = transmit(model, trials, settings, name=name)[-1]
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
  counts,
  num_candidates,
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
  scheme, held = schemes.SCHEMES[name], []
  for count in counts:
    num_messages = len(model.fit.codewords) // scheme.num_codewords(
      count, 1, num_groups, bin_size
    )
    settings = schemes.Settings(
      num_candidates, count, None, num_groups, bin_size=bin_size
    )
    num_messages, settings = split_messages(name, settings, num_messages)
    held.append(
      _held(model, trials, num_messages, name=name, settings=settings)
    )
  held = jax.tree.map(lambda *x: jnp.stack(x), *held)
  counts = jnp.asarray(counts, jnp.int32)
  return training.Pool(counts, trials.right, trials.sides, *held)


class _Want(NamedTuple):
  """A fit to be: its scheme, F codewords and the list sizes it is for."""

  scheme: str
  count: int  # F
  counts: tuple[int, ...]  # K
  beta: float | None = None
  num_groups: int = 1  # G
  bin_size: int = 1  # M

  def path(self, workdir):
    """Where it is kept."""
    return fits.fit_path(
      workdir, self.scheme, self.count, self.beta,
      num_groups=self.num_groups, bin_size=self.bin_size,
    )  # fmt: skip


def _fit_key(context, want: _Want):
  place = 0 if want.beta is None else betas_of(context.config).index(want.beta)
  numbers = list(schemes.SCHEMES).index(want.scheme), want.count, place
  if (want.num_groups, want.bin_size) != (1, 1):
    numbers += want.num_groups, want.bin_size
  return gumbel.domain_key(_key(context), gumbel.Domain.FITS, *numbers)


class _Start(NamedTuple):
  """Parts of a fit that are there before its codeword decoder is trained."""

  codewords: np.ndarray  # [F, P], see `schemes.Fit`
  classifier: Any  # likewise
  images: np.ndarray  # [., P] of the first rows of the decoder's table
  num_candidates: int  # N


def _kmeans_start(context, model, trials):
  """(key, want) -> `_Start` of gls_kmeans and list_quantiser."""
  config, refine = _network_config(context.config), context.config.refine
  train = np.asarray(context.halves['train'].right)[: refine.num_kmeans]
  steps = refine.classifier_steps

  def start(key, want):
    words = list_quantiser.fit_codewords(
      train.reshape(len(train), -1), want.count
    )
    own = list_quantiser.nearest(
      trials.right.reshape(len(trials.right), -1), words
    )
    if want.beta is not None:
      latent = jax.jit(model.networks.encode)(model.params, trials.right)
      classifier, _ = training.train_classifier(
        key, *latent, own, num_codewords=config.num_codewords, steps=steps
      )
      return _Start(words, classifier, words, refine.num_candidates)
    classifier = None
    if want.bin_size > 1:
      classifier, _ = training.train_side_classifier(
        key, trials.sides, own, config=config, steps=steps
      )
    return _Start(words, classifier, words, want.count)

  return start


def _lattice_start(context, model, trials):
  """(key, want) -> `_Start` of lattice; one network of means serves all."""
  config = _network_config(context.config)
  size, place = config.latent_size, list(schemes.SCHEMES).index('lattice')
  known = lattice_choices(
    gumbel.domain_key(_key(context), gumbel.Domain.FITS, place), model,
    trials.right, trials.sides, config, context.config.refine.classifier_steps,
  )  # fmt: skip
  grey = np.full((1, *config.source_shape), 0.5)  # the VAE has the first word

  def start(key, want):
    del key
    num_decoders, groups = want.counts[0], want.num_groups
    settings = schemes.Settings(1, num_decoders, want.count // groups, groups)
    space = choose_lattice_space(known, model, settings)
    leaders = schemes.lattice_code(settings, size).leaders
    return _Start(
      leaders.astype(np.float32), space._asdict(), grey, want.count << size
    )

  return start


def _fit(context, want: _Want, model, trials, start):
  """Makes a fit from `start` and keeps it, or reads it."""
  path = want.path(context.workdir)
  if path.exists():
    return fits.read_fit(path)[0]
  config, refine = _network_config(context.config), context.config.refine
  key, counts = _fit_key(context, want), want.counts
  words, classifier, images, num_candidates = start(key, want)
  fit = schemes.Fit(words, None, classifier, config)
  pool = make_pool(
    want.scheme, model._replace(fit=fit), trials, counts, num_candidates,
    num_groups=want.num_groups, bin_size=want.bin_size,
  )  # fmt: skip
  params, _ = training.train(
    key, images.reshape(-1, *config.source_shape), pool, config=config,
    steps=refine.steps, batch_size=refine.batch_size,
    learning_rate=refine.learning_rate, mean_weight=refine.mean_weight,
  )  # fmt: skip
  fit = fit._replace(params=jax.tree.map(np.asarray, params))
  fits.write_fit(
    path, fit, num_decoders=sorted(set(counts)),
    num_candidates=num_candidates, side_kind=context.config.train.side_kind,
    mean_weight=refine.mean_weight,
  )  # fmt: skip
  return fit


def _key(context):
  return gumbel.seed_key(context.config.train.seed)


def _filled(config, counts) -> tuple[int, ...]:
  """List sizes repeated to one length: every fit runs one compiled loop."""
  length = len(config.num_decoders)
  return tuple((list(counts) * length)[:length])


def _wanted_lists(config) -> list[_Want]:
  """One for each M and each F = L K M of the table."""
  wanted = {}
  for m, l, k in itertools.product(
    config.bin_sizes, config.num_messages, config.num_decoders
  ):
    wanted.setdefault((m, l * k * m), []).append(k)
  return [
    _Want('list_quantiser', f, _filled(config, counts), bin_size=m)
    for (m, f), counts in sorted(wanted.items())
  ]


def _wanted_kmeans(config, beta) -> list[_Want]:
  """One for each G that divides some K, and each L of the table."""
  counts = {
    g: [k for k in config.num_decoders if k % g == 0] for g in config.num_groups
  }
  return [
    _Want('gls_kmeans', l * g, _filled(config, counts[g]), beta, g)
    for g, l in itertools.product(counts, config.num_messages)
    if counts[g]
  ]


def _wanted_lattices(config, beta) -> list[_Want]:
  """One for each K, with a group for each decoder, and each L of the table."""
  return [
    _Want('lattice', l * k, (k,), beta, k)  # not filled: a pool has images
    for k, l in itertools.product(config.num_decoders, config.num_messages)
  ]


def _fit_all(context, name, model, wanted, num_images, start, num_candidates):
  """(F, G, M) -> model, for every fit that is wanted; made or read."""
  trials, begun, found = None, None, {}
  if not all(want.path(context.workdir).exists() for want in wanted):
    halves = context.halves['train']
    trials = prepare(
      gumbel.domain_key(_key(context), gumbel.Domain.FITS), name, model,
      type(halves)(*(x[:num_images] for x in halves)), context.config,
      num_candidates,
    )  # fmt: skip
    begun = start(context, model, trials)
  for want in tqdm.tqdm(wanted, desc=name):
    fit = _fit(context, want, model, trials, begun)
    place = want.count, want.num_groups, want.bin_size
    found[place] = model._replace(fit=fit)
  return found


def fit_lists(context) -> dict[tuple[int, int, int], schemes.Model]:
  """(F, G, M) -> model of the list quantiser, for every L K M of the table."""
  config = context.config
  return _fit_all(
    context, 'list_quantiser', unfitted(config), _wanted_lists(config), None,
    _kmeans_start, 1,
  )  # fmt: skip


def fit_on_vae(context, name: str, beta):
  """(F, G, M) -> model of gls_kmeans or lattice, for every K and L.

  They stand on the VAE of one beta.
  """
  config = context.config
  wanted, start = {
    'gls_kmeans': (_wanted_kmeans, _kmeans_start),
    'lattice': (_wanted_lattices, _lattice_start),
  }[name]
  return _fit_all(
    context, name, context.models[beta], wanted(config, beta),
    config.refine.num_images, start, config.refine.num_candidates,
  )  # fmt: skip


# In units of what side information leaves of a latent.
_PERIODS = tuple(2.0 * 1.25**i for i in range(9))  # 2 to 11.9
# 0: pixels feel all axes alike; 1: a decoder is as unsure of all alike.
_POWERS = (0.0, 0.5, 1.0)
_LEARNT_FROM = 0.875  # share of the images; the rest judges


class LatticeChoices(NamedTuple):
  """The network of the means, axes to choose from, and images that judge."""

  mean: Any  # params
  transforms: jax.Array  # [S, D, D]
  right: jax.Array  # [R, H, W]
  sides: jax.Array  # [R, K, h, w]
  latents: jax.Array  # [R, D]
  means: jax.Array  # [R, K, D] of the latents, given the sides
  keys: jax.Array  # [R] of the dither


def lattice_choices(
  key, model: schemes.Model, right, sides, config, steps: int
) -> LatticeChoices:
  """All that choices for several K and L share.

  Args:
    key: typed key; reusable for other domains.
    model: with the VAE.
    right: [R, H, W], at least 8 of them.
    sides: [R, K, h, w].
    config: `CodewordDecoderConfig`.
    steps: of Adam.

  Returns:
    `LatticeChoices`.
  """
  latents, log_std = jax.jit(model.networks.encode)(model.params, right)
  cut = int(_LEARNT_FROM * len(right))
  mean, _ = training.train_side_means(
    key, sides[:cut], latents[:cut], config=config, steps=steps
  )
  right, sides, latents = right[cut:], sides[cut:], latents[cut:]
  means = codeword_decoder.side_scores(
    mean, sides, config, config.latent_size
  )  # [R, K, D]
  left = np.asarray(latents[:, None] - means, np.float64)  # [R, K, D]
  axes = _transforms(
    left.reshape(-1, left.shape[2]),
    np.exp(np.mean(np.asarray(log_std, np.float64), 0)),
  )
  rows = jnp.arange(len(right), dtype=jnp.int32)
  keys = schemes.SCHEMES['lattice'].prepare(
    gumbel.domain_key(key, gumbel.Domain.SELECTION), rows, model, None
  )
  return LatticeChoices(
    mean, jnp.asarray(axes), right, sides, latents, means, keys
  )


def _transforms(left, spread) -> np.ndarray:
  """Axes for each of `_POWERS`: [S, D, D] float32.

  Args:
    left: [., D] latents less their means.
    spread: [D] standard deviation of the VAE's posterior: half as much is
      twice the change of the pixels.
  """
  scaled = left / spread
  variance, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
  variance, axes = np.maximum(variance[::-1], 1e-12), axes[:, ::-1]
  found = []
  for power in _POWERS:
    stretch = variance ** (-power / 2)
    unit = np.exp(np.mean(np.log(stretch * np.sqrt(variance))))
    found.append(axes / spread[:, None] * stretch / unit)
  return np.array(found, np.float32)


@functools.partial(jax.jit, static_argnames='settings')
def _errors(known: LatticeChoices, model, spaces, *, settings) -> jax.Array:
  """Mean squared error of the best of K decoders: spaces of [S] -> [S]."""
  code = schemes.lattice_code(settings, known.latents.shape[1])
  count = settings.num_decoders
  decoders = jnp.arange(count, dtype=jnp.int32)
  means, sides = known.means[:, :count], known.sides[:, :count]
  flat = sides.reshape(-1, *sides.shape[2:])

  def one(space):
    sent = schemes.encode_lattice(space, known.keys, known.latents, code)
    _, latent = schemes.decode_lattice(
      space, known.keys, means, sent.message, decoders, code
    )
    images = model.networks.decode(
      model.params, latent.reshape(len(flat), -1), flat
    )
    images = images.reshape(*latent.shape[:2], *images.shape[1:])
    axes = tuple(range(2, images.ndim))
    error = jnp.mean((images - known.right[:, None]) ** 2, axes)
    return jnp.mean(jnp.min(error, 1))

  return jax.lax.map(one, spaces)


def choose_lattice_space(
  known: LatticeChoices, model, settings
) -> schemes.LatticeSpace:
  """The best period and axes for one K and L.

  Args:
    known: from `lattice_choices`, of at least K decoders.
    model: with the VAE.
    settings: `scheme.Settings`.
  """
  pairs = list(itertools.product(known.transforms, _PERIODS))
  spaces = schemes.LatticeSpace(
    jnp.array([period for _, period in pairs], jnp.float32),
    jnp.stack([transform for transform, _ in pairs]),
    None,
  )
  best = int(np.argmin(_errors(known, model, spaces, settings=settings)))
  return jax.tree.map(
    np.asarray,
    schemes.LatticeSpace(
      spaces.period[best], spaces.transform[best], known.mean
    ),
  )
