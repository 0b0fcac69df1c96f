"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, Tables 13 to 16 and
Figs. 3 and 4: the mean over test images of the squared error per pixel of the
best of K decoders; pixels are in [0, 1]. Beside the schemes of
`image_codec.scheme` and the paper's baseline `shared_race` stand the rows that
every such table needs: the mean image, the side information alone, k-means
with as many codewords as there are messages and no side information, and the
figures of the paper's Tables 13 to 16.

beta, the number of candidates and the size of a bin are chosen for each K and L
on images held out from training, with other keys than those of the final
figures, which come from the test set; of the list quantiser every size of a bin
has its row. A repeat draws crops, candidates, labels and races anew.

Legend: R images, N candidates, K decoders, L messages, G groups, M codewords of
a bin.
"""

import functools
import itertools
import math
import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling import bounds, files, gumbel, tables
from listcoupling.compression import list_quantiser
from listcoupling.experiments.images import figures
from listcoupling.experiments.run import Experiment
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.bitstream import MAX_CANDIDATES
from listcoupling.image_codec.trials import Trials, by_messages, transmit
from listcoupling.tables import Column
from listcoupling.together import leads
from listcoupling.training import image_fits
from listcoupling.training import vae as training
from listcoupling.validation import Field

SCHEMES = ('gls', 'shared_race', 'gls_kmeans', 'lattice', 'list_quantiser')
FIELDS = {
  'train': training.check_config,
  'betas': Field(float, above=0, many=True, empty=True),
  'num_decoders': Field(int, least=1, many=True),
  'num_messages': Field(int, least=1, many=True),
  'num_groups': Field(int, least=1, many=True),
  'bin_sizes': Field(int, least=1, many=True),
  'schemes': Field(str, among=SCHEMES, many=True),
  'num_candidates': Field(int, least=1, many=True),
  'refine': {
    **dict.fromkeys(
      ('num_images', 'num_kmeans', 'num_candidates', 'classifier_steps',
       'steps', 'batch_size', 'hidden_size'),
      Field(int, least=1),
    ),
    'betas': Field(float, above=0, many=True, empty=True),
    'learning_rate': Field(float, above=0),
    'mean_weight': Field(float, least=0, most=1),
  },
  'num_images': Field(int, least=2),
  'num_held_out_images': Field(int, least=0),
  'num_repeats': Field(int, least=1),
}  # fmt: skip


MEASURES = ('best', 'mean', 'worst', 'missed', 'bound at N candidates')
COLUMNS = (
  Column('scheme', 'scheme'),
  Column('K', 'num_decoders'),
  Column('L', 'num_messages'),
  Column('G', 'num_groups'),
  Column('M', 'bin_size'),
  Column('chosen', 'is_chosen'),
  Column('bits/pixel', 'bits_per_pixel', '.4f'),
  Column('PSNR', 'psnr', '.2f', error=False),
  Column('best', 'mse', '.4f'),
  Column('mean', 'mse_mean', '.4f'),
  Column('worst', 'mse_worst', '.4f'),
  Column('ahead', 'ahead', '+.4f'),
  Column('paper', 'paper_mse', '.4f'),
  Column('P[error]', 'error_rate', '.3f'),
  Column('bound', 'error_bound', '.3f'),
)

_LEGEND = (
  'K decoders, L messages, G groups of decoders, M codewords of a bin (chosen: '
  'on held-out images). best, mean, worst: squared error per pixel of the K '
  'decoders, ± one standard error over images; PSNR: of the best, dB. ahead: '
  'how much less the best errs than that of the list quantiser with M = 1 at '
  'this K and L, positive is better. P[error]: no decoder has what the '
  'encoder chose; bound: on that. kmeans: no side information; side_only: no '
  'message.'
)
_PAPERS = ' paper: best of arXiv 2506.05632.'

# Data, scheme, K -> MSE of the best decoder at 4, 8, 16, 32, 64 messages.
_PAPER = {
  ('mnist', 'gls', 1): (0.1027, 0.0942, 0.0852, 0.0766, 0.0693),
  ('mnist', 'gls', 2): (0.0860, 0.0792, 0.0734, 0.0687, 0.0636),
  ('mnist', 'gls', 4): (0.0751, 0.0710, 0.0671, 0.0635, 0.0564),
  ('mnist', 'shared_race', 2): (0.0941, 0.0865, 0.0783, 0.0718, 0.0669),
  ('mnist', 'shared_race', 4): (0.0886, 0.0815, 0.0747, 0.0694, 0.0639),
  ('cifar', 'gls', 1): (0.1119, 0.1054, 0.0963, 0.0846, 0.0710),
  ('cifar', 'gls', 2): (0.0925, 0.0860, 0.0787, 0.0698, 0.0616),
}


class Job(NamedTuple):
  """Scheme and sizes of one row of the table."""

  scheme: str  # of SCHEMES
  num_decoders: int  # K
  num_messages: int  # L
  num_groups: int = 1  # G

  @property
  def code(self) -> str:
    """Key of `image_codec.scheme.SCHEMES`."""
    return 'gls' if self.scheme == 'shared_race' else self.scheme


class Sent(NamedTuple):
  """R images at K decoders."""

  images: jax.Array  # [R, K, H, W]
  error: jax.Array  # [R, K] squared error per pixel
  found: jax.Array  # [R, K] decoder holds the encoder's choice
  error_bound: jax.Array  # [R] on the chance that nobody finds it, or NaN


# What is sent: the rows, and among which settings each chooses.


def _check_sizes(config) -> None:
  """Raises ValueError for settings that do not go together."""
  most = max(config.num_messages) * max(config.num_groups)
  if max(config.num_candidates) < most:
    raise ValueError(
      'num_candidates must reach num_messages (times num_groups), '
      f'got {config.num_candidates} for {most}.'
    )
  size = config.train.model.latent_size
  cosets = max(config.num_messages) * max(config.num_decoders)
  if 'lattice' in config.schemes and cosets << size > MAX_CANDIDATES:
    raise ValueError(
      f'the lattice of latent_size {size} at {cosets} messages and decoders '
      f'has {cosets << size} numbers, a file takes {MAX_CANDIDATES}; take a '
      'smaller latent_size or leave lattice out of schemes.'
    )
  if config.num_held_out_images and not config.train.num_held_out:
    raise ValueError(
      'the choice of settings needs train.num_held_out images, got 0.'
    )


def jobs_of(config, code: str | None = None) -> list[Job]:
  """Every row of the codecs, or of one of them."""
  jobs = [
    Job(scheme, num_decoders, num_messages, num_groups)
    for num_decoders, num_messages, scheme in itertools.product(
      config.num_decoders, config.num_messages, config.schemes
    )
    for num_groups in _groups_of(config, scheme, num_decoders)
  ]
  return [job for job in jobs if code in (None, job.code)]


def _groups_of(config, scheme, num_decoders) -> list[int]:
  """Numbers G of groups that make a row of their own."""
  if scheme == 'lattice':  # cosets are divided among all decoders
    return [num_decoders]
  if scheme == 'list_quantiser':  # so are codewords, whatever G is
    return [1]
  if scheme == 'shared_race':  # for one decoder the same as gls
    return [g for g in config.num_groups if num_decoders > 1 == g]
  return [g for g in config.num_groups if num_decoders % g == 0]


def settings_of(config, job: Job) -> list[fits.Setting]:
  """Settings among which a job chooses; N of at least L G."""
  if job.scheme == 'list_quantiser':  # no candidates
    return [fits.Setting(None, 1, m) for m in config.bin_sizes]
  if job.scheme in ('gls_kmeans', 'lattice'):
    count = 1 if job.scheme == 'lattice' else config.refine.num_candidates
    return [fits.Setting(beta, count) for beta in _fitted_betas(config)]
  least = job.num_messages * job.num_groups
  counts = [n for n in config.num_candidates if n >= least]
  betas = image_fits.betas_of(config)
  return [fits.Setting(*pair) for pair in itertools.product(betas, counts)]


def _fitted_betas(config) -> tuple[float, ...]:
  """The betas that gls_kmeans and lattice choose among: all unless named."""
  return tuple(config.refine.betas) or image_fits.betas_of(config)


def _size(job: Job, bin_size: int) -> image_fits.Size:
  count = schemes.SCHEMES[job.code].num_codewords(
    job.num_decoders, job.num_messages, job.num_groups, bin_size
  )
  return image_fits.Size(count, job.num_groups, bin_size)


def _sizes(config, code) -> dict[image_fits.Size, list[int]]:
  """The fits that the rows of a code need, and for which K each is."""
  wanted, bins = {}, config.bin_sizes if code == 'list_quantiser' else (1,)
  for bin_size, num_messages, num_decoders in itertools.product(
    bins, config.num_messages, config.num_decoders
  ):
    for num_groups in _groups_of(config, code, num_decoders):
      job = Job(code, num_decoders, num_messages, num_groups)
      wanted.setdefault(_size(job, bin_size), []).append(num_decoders)
  return wanted


# Sending.


def _bound(prepared, index, settings) -> jax.Array:
  """`bounds.codebook_error_bound` [R] of the encoder's candidates [R]."""
  place = index[:, None]
  meant = jax.nn.softmax(prepared.encoder_log_weights)  # [R, N]
  meant = jnp.take_along_axis(meant, place, 1)[:, 0]
  heard = jax.nn.softmax(prepared.decoder_log_weights)  # [R, K, N]
  heard = jnp.take_along_axis(heard, place[:, None], 2)[..., 0]
  return bounds.codebook_error_bound(
    meant, heard, settings.num_messages, num_groups=settings.num_groups
  )


@by_messages
def _send(model, trials, settings, name) -> Sent:
  prepared, encoding, decoding = transmit(model, trials, settings, name)
  right = trials.right
  found = decoding.index == encoding.index[:, None]
  bound = jnp.full(len(right), jnp.nan, jnp.float32)
  if name == 'gls' and not settings.shared_race:
    # Theorem 2 is about a race for each decoder and labels that know nothing.
    bound = _bound(prepared, encoding.index, settings)
  error = squared_error(decoding.images, right)
  return Sent(decoding.images, error, found, bound)


def squared_error(images, right) -> jax.Array:
  """Squared error per pixel: [R, K, H, W] against [R, H, W] -> [R, K]."""
  axes = tuple(range(2, images.ndim))
  return jnp.mean((images - right[:, None]) ** 2, axes)


class Table:
  """Sends images by any scheme; fits what is missing.

  Args:
    context: see `image_fits.Context`.
  """

  def __init__(self, context: image_fits.Context):
    self.context = context
    self._fits = {}  # code -> (beta, size) -> model

  def fit(self, code: str) -> None:
    """Fits what a scheme needs, or reads it."""
    if code in self._fits or code == 'gls':
      return
    config, found = self.context.config, {}
    betas = (None,) if code == 'list_quantiser' else _fitted_betas(config)
    for beta in betas:
      fitted = image_fits.Fits(self.context, code, beta)
      made = fitted.models(_sizes(config, code))
      found |= {(beta, size): model for size, model in made.items()}
    self._fits[code] = found

  def prepare(self, key, halves, setting, code: str = 'gls') -> Trials:
    """Sides and candidates; the sides depend on the key alone."""
    return self.context.trials(
      key, code, setting.beta, halves, setting.num_candidates
    )

  def send(self, job: Job, trials: Trials, setting) -> Sent:
    """One scheme at one K, L and G, on trials made for it."""
    beta, num_candidates, bin_size = setting
    if job.code == 'gls':
      model = self.context.models[beta]
    else:
      model = self._fits[job.code][beta, _size(job, bin_size)]
    settings = schemes.Settings(
      num_candidates=num_candidates,
      num_decoders=job.num_decoders,
      num_messages=job.num_messages,
      num_groups=job.num_groups,
      shared_race=job.scheme == 'shared_race',
      bin_size=bin_size,
    )
    return _send(model, trials, settings, job.code)


def _sent(table, key, halves, lines, name=None):
  """Yields (job, setting, Sent) of lines (job, setting) of one code.

  Those of one setting share their trials.
  """
  by_setting = {}
  for job, setting in lines:
    by_setting.setdefault(setting, []).append(job)
  for setting in tqdm.tqdm(sorted(by_setting), desc=name, disable=not name):
    jobs = by_setting[setting]
    trials = table.prepare(key, halves, setting, jobs[0].code)
    for job in jobs:
      yield job, setting, table.send(job, trials, setting)


def select(table: Table, jobs, seed: int) -> dict[Job, fits.Setting]:
  """Job -> setting, the best on held-out training images.

  Without `config.num_held_out_images` the first setting of each job.
  """
  config = table.context.config
  choices = {job: settings_of(config, job) for job in jobs}
  chosen = {job: settings[0] for job, settings in choices.items()}
  if not config.num_held_out_images or max(map(len, choices.values())) == 1:
    return chosen
  halves = spread(table.context.halves['select'], config.num_held_out_images)
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.SELECTION)
  least = dict.fromkeys(jobs, np.inf)
  lines = [(job, setting) for job in jobs for setting in choices[job]]
  for job, setting, sent in _sent(
    table, key, halves, lines, 'choice of settings'
  ):
    error = float(np.asarray(sent.error).min(1).mean())
    if error < least[job]:
      least[job], chosen[job] = error, setting
  return chosen


def spread(halves, count):
  """`count` images evenly spread: the ends of a test set differ."""
  places = np.linspace(0, len(halves.right) - 1, min(count, len(halves.right)))
  return type(halves)(*(x[places.astype(int)] for x in halves))


def measure(error, found, error_bound) -> np.ndarray:
  """One repeat of one job, as kept on disk.

  Args:
    error: [R, K] squared error per pixel.
    found: [R, K] whether a decoder holds the encoder's choice, or NaN.
    error_bound: [R] on the chance that nobody does, or NaN.

  Returns:
    [5, R], see `MEASURES`.

  Example:
    >>> measure([[.4, .1]], [[0., 1.]], [.2])[:, 0].tolist()
    [0.1, 0.25, 0.4, 0.0, 0.2]
  """
  error, found = np.asarray(error), np.asarray(found, float)
  spread = error.min(1), error.mean(1), error.max(1)
  return np.stack([*spread, 1 - found.max(1), np.asarray(error_bound)])


def _name(job: Job, bin_size: int = 1) -> str:
  """Of a job's arrays in files."""
  return '.'.join(map(str, (*job, bin_size)))


def repeat(table: Table, halves, lines, key) -> dict[str, np.ndarray]:
  """Every line (job, setting) on the images once: name -> [5, R]."""
  return {
    _name(job, setting.bin_size): measure(*sent[1:])
    for job, setting, sent in _sent(table, key, halves, lines)
  }


def _repeat_key(seed: int, number: int) -> jax.Array:
  key = gumbel.seed_key(seed)
  return gumbel.domain_key(key, gumbel.Domain.REPEAT, number)


def _repeats(record, table, halves, code, seed):
  """Jobs of one code, repeated: name -> [repeats, 5, R], and the settings."""
  config = table.context.config
  jobs = jobs_of(config, code)
  record.deal([jobs], lambda jobs: _settle(table, jobs, seed))
  chosen = _settle(table, jobs, seed)
  lines = [*chosen.items()]
  if code == 'list_quantiser':  # a row for every size of a bin
    lines = [(job, each) for job in jobs for each in settings_of(config, job)]
  names = sorted(_name(job, setting.bin_size) for job, setting in lines)

  def one(i):
    part = record.load(f'repeats/{code}_{i}')
    if part is None or not set(names) <= part.keys():
      part = repeat(table, halves, lines, _repeat_key(seed, i))
      record.save(f'repeats/{code}_{i}', part)
    return part

  numbers = range(config.num_repeats)
  record.deal(numbers, one)
  parts = [one(i) for i in tqdm.tqdm(numbers, f'{code}, repeats')]
  return {name: np.stack([x[name] for x in parts]) for name in names}, chosen


def _settle(table, jobs, seed) -> dict[Job, fits.Setting]:
  """`select`, kept in the workdir: scripts/compress.py reads it, too."""
  path = table.context.workdir / 'choice' / f'{jobs[0].code}.json'
  if path.exists():
    kept = files.read_json(path)['chosen']
    chosen = {Job(*job): fits.Setting(*setting) for job, setting in kept}
    if set(jobs) <= chosen.keys():
      return {job: chosen[job] for job in jobs}
  chosen = select(table, jobs, seed)
  # As lists: written as they stand they would be dictionaries.
  kept = [(list(job), list(setting)) for job, setting in chosen.items()]
  files.write_json(path, {'chosen': kept})
  return chosen


def _side_only(record, table, halves, seed) -> dict[str, np.ndarray]:
  """Answers to the sides alone, for every K, as of `_repeats`."""
  config = table.context.config
  if not table.context.models:
    return {}
  model = next(iter(table.context.models.values()))
  names = {n: _name(Job('side_only', n, 1)) for n in config.num_decoders}

  def one(i):
    part = record.load(f'repeats/side_only_{i}')
    if part is None or not set(names.values()) <= part.keys():
      right, sides, _ = table.prepare(
        _repeat_key(seed, i), halves, fits.Setting(None, 1), 'list_quantiser'
      )
      answers = jax.jit(model.networks.side_only)(
        model.params, sides.reshape(-1, *sides.shape[2:])
      )
      answers = answers.reshape(*sides.shape[:2], *right.shape[1:])
      error = np.asarray(squared_error(answers, right))
      missing = np.full_like(error, np.nan)
      part = {
        name: measure(error[:, :count], missing, missing[:, 0])
        for count, name in names.items()
      }
      record.save(f'repeats/side_only_{i}', part)
    return part

  numbers = range(config.num_repeats)
  record.deal(numbers, one)
  parts = [one(i) for i in numbers]
  return {name: np.stack([x[name] for x in parts]) for name in names.values()}


# Rows.


def paper_mse(dataset: str, scheme: str, num_decoders: int, num_messages: int):
  """The paper's figure, or None; all but its baseline stand beside GLS."""
  if scheme == 'side_only':
    return None
  name = scheme if scheme == 'shared_race' else 'gls'
  row = _PAPER.get((dataset[:5], name, num_decoders), ())
  return dict(zip((4, 8, 16, 32, 64), row)).get(num_messages)


def _is_papers(train) -> bool:
  """Whether a decoder knows what it knows in the paper."""
  return train.side_kind == 'crop' and tuple(train.model.side_shape) in (
    (7, 7), (16, 16, 3),
  )  # fmt: skip


def _with_rate(row: dict, source_shape) -> dict:
  """A row with its rate and the PSNR in dB; three colours are one pixel."""
  bits = math.log2(row['num_messages'])
  return row | {
    'bits_per_pixel': bits / math.prod(source_shape[:2]),
    'psnr': -10 * math.log10(max(row['mse'], 1e-20)),
  }


def plain_rows(config, train, halves) -> list[dict]:
  """Rows without side information: the mean image and k-means.

  Args:
    config: of the experiment.
    train: [R, H, W] sources of the training images.
    halves: the test images.
  """
  flat = np.asarray(halves.right).reshape(len(halves.right), -1)
  train = np.asarray(train).reshape(len(train), -1)
  answers = [('mean_image', 1, train.mean(0))]
  for num_messages in config.num_messages:
    words = list_quantiser.fit_codewords(
      train[: config.refine.num_kmeans], num_messages
    )
    nearest = np.asarray(list_quantiser.nearest(flat, words))
    answers.append(('kmeans', num_messages, words[nearest]))
  rows = [
    {
      'scheme': scheme,
      'num_decoders': None,
      'num_messages': num_messages,
      'images': len(flat),
      'repeats': 1,
      **tables.means({'mse': ((flat - answer) ** 2).mean(1)}),
    }
    for scheme, num_messages, answer in answers
  ]
  return [_with_rate(row, halves.right.shape[1:]) for row in rows]


def codec_rows(config, measured, chosen) -> list[dict]:
  """Rows of what was repeated; standard errors are over images.

  "ahead" is how much less the best decoder errs than that of the list quantiser
  of the same K and L with bins of one codeword, image by image.

  Args:
    config: of the experiment.
    measured: 'scheme.K.L.G.M' -> [repeats, 5, R] of `measure`.
    chosen: (scheme, K, L, G) -> (beta, N, M).
  """
  rows = []
  for name, values in measured.items():
    scheme, *numbers = name.split('.')
    *job, bin_size = scheme, *map(int, numbers)
    beta, num_candidates, best_size = chosen.get(tuple(job), (None,) * 3)
    row = Job(*job)._asdict()
    row |= {'images': values.shape[2], 'repeats': len(values)}
    row |= _measures(values)
    plain = measured.get(f'list_quantiser.{job[1]}.{job[2]}.1.1')
    if plain is not None and plain is not values:
      ahead = plain[:, 0].mean(0) - values[:, 0].mean(0)
      row |= tables.means({'ahead': ahead})
    if job[3] == 1 and _is_papers(config.train):
      row['paper_mse'] = paper_mse(config.train.dataset, *job[:3])
    has_candidates = scheme not in ('list_quantiser', 'lattice')
    row['beta'] = beta
    row['num_candidates'] = num_candidates if has_candidates else None
    if scheme == 'list_quantiser':
      row |= {'bin_size': bin_size, 'is_chosen': bin_size == best_size}
    rows.append(_with_rate(row, config.train.model.source_shape))
  return sorted(rows, key=lambda row: [row[name] for name in Job._fields[1:]])


def _measures(values) -> dict:
  """Columns of [repeats, 5, R], the repeats of one image averaged first."""
  best, mean, worst, missed, bound = values.mean(0)  # [R] each
  return {
    **tables.means({'mse': best, 'mse_mean': mean, 'mse_worst': worst}),
    'error_rate': None if np.isnan(missed).any() else float(missed.mean()),
    'error_bound': None if np.isnan(bound).any() else float(bound.mean()),
  }


def as_text(rows, columns=COLUMNS) -> str:
  """The table for a terminal, its columns explained, and who is ahead.

  Args:
    rows: of `codec_rows` and `plain_rows`, of any number of tables.
    columns: what is shown.
  """
  beside = any(row.get('paper_mse') is not None for row in rows)
  legend = textwrap.fill(_LEGEND + _PAPERS * beside, width=79)
  return '\n\n'.join([tables.as_text(rows, columns), legend, *_standing(rows)])


_KINDS = 'ahead', 'level', 'behind'


def _against_plain(row) -> str | None:
  """Ahead of the list quantiser without bins, behind or level; None: no cell.

  By two standard errors of the best decoder. A list quantiser counts with the
  size of a bin that was chosen on other images; M = 1 is level with itself, a
  larger size without it beside it is no cell.
  """
  gap, error = row.get('ahead'), row.get('ahead_se') or 0.0
  if row.get('is_chosen') and row['bin_size'] == 1:
    return 'level'
  if gap is None or row.get('is_chosen') is False:
    return None
  return (
    'ahead' if gap > 2 * error else 'behind' if gap < -2 * error else 'level'
  )


def _standing(rows) -> list[str]:
  """A sentence on all cells, and a line of counts for each scheme.

  A list quantiser that has no bins anywhere is level with itself: no news.
  """
  cells = {}
  for row in rows:
    if kind := _against_plain(row):
      trivial = row['scheme'] == 'list_quantiser' and row['bin_size'] == 1
      cells.setdefault(row['scheme'], []).append((kind, trivial))
  cells = {
    scheme: [kind for kind, _ in own]
    for scheme, own in cells.items()
    if not all(trivial for _, trivial in own)
  }
  if not cells:
    return []
  kinds = [kind for own in cells.values() for kind in own]
  first, *more = (f'{kind} in {kinds.count(kind)}' for kind in _KINDS)
  said = (
    'Against the list quantiser with M = 1 at the same K and L the best '
    f'decoder is {first} of {len(kinds)} cells, {", ".join(more)} (by two '
    'standard errors).'
  )
  counts = [
    {'scheme': scheme} | {kind: own.count(kind) for kind in _KINDS}
    for scheme, own in cells.items()
  ]
  return [f'{textwrap.fill(said, 79)}\n\n{tables.as_text(counts)}']


# The run.


def _check_models(record, models) -> None:
  """Refuses results of other networks of the same settings."""
  digests = {f'beta {b:g}': files.digest(m.params) for b, m in models.items()}
  kept = record.rows(
    digests,
    lambda digest: {'sha256': digest},
    key='model',
    table='models.csv',
  )
  changed = [r['model'] for r in kept if r['sha256'] != digests[r['model']]]
  if changed:
    raise ValueError(
      f'{record.workdir} holds results of other networks of {changed}: put '
      'them back or choose another workdir.'
    )


def _prepare(config, seed):
  """Trains or reads the models, then one scheme after the other.

  The folder gets model*/, fits/, choice/, repeats/ and examples_*.png, too.
  Several processes want trained models: a training is on a mesh or alone.
  The seed is of choice and evaluation; training has its own, train.seed.
  """
  _check_sizes(config)
  halves = training.load_halves(config.train)

  def fill(record):
    models = image_fits.train_models(config, record.workdir)
    if models:
      _check_models(record, models)
    record.note(pixels='in [0, 1]; squared error per pixel (and colour)')
    table = Table(image_fits.Context(config, record.workdir, halves, models))
    return _fill(record, table, seed)

  images = files.digest({k: v._asdict() for k, v in halves.items()})
  return {'images': images, 'measures': MEASURES}, fill


def _fill(record, table: Table, seed: int) -> list[dict]:
  """The rows, written after each scheme, and the pictures."""
  config, halves = table.context.config, table.context.halves
  test = spread(halves['test'], config.num_images)
  plain = plain_rows(config, halves['train'].right, test)
  measured, chosen = _side_only(record, table, test, seed), {}
  # The cheap ones first; gls and its baseline share their trials.
  for code in ('list_quantiser', 'gls', 'lattice', 'gls_kmeans'):
    if jobs_of(config, code):
      record.deal([code], table.fit)  # one fits, all read
      table.fit(code)
      more, settings = _repeats(record, table, test, code, seed)
      measured, chosen = measured | more, chosen | settings
      found = plain + codec_rows(config, measured, chosen)
      record.write(found)  # so far
      record.note(table=found)
  if leads():
    _draw_examples(table, test, chosen, record.workdir, seed)
  return found


# What an encoder chooses; of other schemes a candidate.
_CHOICES = {'lattice': 'lattice point', 'list_quantiser': 'codeword'}


def _draw_examples(table, halves, chosen, workdir, seed) -> None:
  """Draws the same four images as each scheme sends them."""
  config = table.context.config
  most = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.PICTURES)
  few = spread(halves, 4)
  lines = {}
  for job in chosen:
    if job[1:3] == (most, num_messages):  # the first of its groups
      lines.setdefault(job.scheme, job)
  for scheme, job in lines.items():
    trials = table.prepare(key, few, chosen[job], job.code)
    sent = table.send(job, trials, chosen[job])
    figures.examples(
      few, trials.sides, sent, workdir / f'examples_{scheme}.png',
      title=f'{scheme}, {np.log2(num_messages):.3g} bits to {most} decoders',
      choice=_CHOICES.get(scheme, 'candidate'),
    )  # fmt: skip


run = Experiment(
  FIELDS,
  _prepare,
  as_text,
  {'rate_distortion.png': figures.rate_distortion},
  may_change=('config.num_repeats', 'config.schemes'),
)


# How much side information matters: a table for each kind of it.


def _points(config) -> dict:
  """Name -> config of its table, for each entry of config.sides.

  An entry is a kind of `data.side_information`, its size and its noise; all
  tables have the same images, codewords and keys.

  Raises:
    ValueError: for entries that make no sense.
  """
  found = {}
  for entry in config.sides:
    try:
      kind, (height, width), noise = entry
    except (TypeError, ValueError):
      raise ValueError(
        f'config.sides must hold (kind, (height, width), noise), got {entry!r}.'
      ) from None
    point = ml_collections.ConfigDict(config.to_dict())
    del point.sides
    colours = tuple(config.train.model.source_shape)[2:]
    point.train.update(side_kind=kind, side_noise=float(noise))
    point.train.model.side_shape = (height, width, *colours)
    training.check_config(point.train)
    _check_sizes(point)
    name = f'{kind}_{height}x{width}' + (f'_{noise:g}' if noise else '')
    found['none' if kind == 'none' else name] = point
  if not found:
    raise ValueError('config.sides must not be empty.')
  return found


def _beside(rows) -> list[dict]:
  """Rows with the PSNR of two others of their K and L beside them.

  The list quantiser without bins: that which knows as much, and that which
  knows nothing, where the sweep has one.
  """

  def cell(row, side):
    return side, row['num_decoders'], row['num_messages']

  plain = {
    cell(row, row['side']): row['psnr']
    for row in rows
    if row['scheme'] == 'list_quantiser' and row['bin_size'] == 1
  }
  return [
    {
      **row,
      'psnr_plain': plain.get(cell(row, row['side'])),
      'psnr_blind': plain.get(cell(row, 'none')),
    }
    for row in rows
  ]


def _prepare_sweep(config, seed):
  """A table in a folder of its own for each kind of side information."""
  points = _points(config)

  def fill(record):
    found = []
    for name, point in points.items():
      made = run(point, record.workdir / name, seed)
      found = _beside([*found, *({'side': name, **row} for row in made)])
      record.write(found)  # so far
    record.note(table=found)
    for count in config.num_decoders if leads() else ():
      mine = [r for r in found if r['num_decoders'] == count]
      figures.sweep(mine, record.workdir / f'sweep_{count}.png')
    return found

  return {}, fill


_PLACE = [column.name for column in COLUMNS].index('psnr') + 1
_SWEEP_COLUMNS = (
  Column('side', 'side'),
  *COLUMNS[:_PLACE],
  Column('no bins', 'psnr_plain', '.2f'),
  Column('no side', 'psnr_blind', '.2f'),
  *COLUMNS[_PLACE:],
)
run_sweep = Experiment(
  FIELDS | {'sides': lambda sides: None},  # `_points` says more
  _prepare_sweep,
  functools.partial(as_text, columns=_SWEEP_COLUMNS),
  {},
  may_change=(*run.may_change, 'config.sides'),
)
