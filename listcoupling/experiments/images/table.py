"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, Tables 13 to 16 and
Figs. 3 and 4: the mean over test images of the squared error per pixel of the
best of K decoders; pixels are in [0, 1]. Beside the schemes of
`image_codec.scheme` and the paper's baseline `shared_race` stand the rows that
every such table needs: the mean image, the side information alone, and k-means
with as many codewords as there are messages and no side information.

beta, the number of candidates and the size of a bin are chosen for each K and L
on images held out from training, with other keys than those of the final
figures, which come from the test set; of the list quantiser every size of a bin
has its row. A repeat draws crops, candidates, labels and races anew.

Beside the rows stand the figures of the paper's Tables 13 to 16, for MNIST and
CIFAR-10.

Legend: R images, N candidates, K decoders, L messages, G groups, M codewords of
a bin.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling import bounds, files, gumbel, tables
from listcoupling.compression import list_quantiser
from listcoupling.config_fields import Field
from listcoupling.experiments.images import figures, fitting
from listcoupling.experiments.run import Experiment
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.bitstream import MAX_CANDIDATES
from listcoupling.tables import Column
from listcoupling.together import leads
from listcoupling.training import vae as training

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
    'betas': Field(float, above=0, many=True, empty=True),
    'learning_rate': Field(float, above=0),
    'mean_weight': Field(float, least=0, most=1),
    **{
      name: Field(int, least=1)
      for name in (
        'num_images', 'num_kmeans', 'num_candidates', 'classifier_steps',
        'steps', 'batch_size', 'hidden_size',
      )
    },
  },
  'num_images': Field(int, least=2),
  'num_held_out_images': Field(int, least=0),
  'num_repeats': Field(int, least=1),
}  # fmt: skip


MEASURES = ('best', 'mean', 'worst', 'missed', 'bound at N candidates')
_JOB = 'scheme', 'num_decoders', 'num_messages', 'num_groups'
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


def _with_rate(row: dict, pixels: int) -> dict:
  """A row with its rate and the PSNR of its mean squared error, in dB.

  Args:
    row: has num_messages and mse.
    pixels: of a source; three colours are one pixel.
  """
  return row | {
    'bits_per_pixel': math.log2(row['num_messages']) / pixels,
    'psnr': -10 * math.log10(max(row['mse'], 1e-20)),
  }


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


def plain_rows(config, train, halves) -> list[dict]:
  """Rows without side information: the mean image and k-means.

  Args:
    config: of the experiment.
    train: [R, H, W] sources of the training images.
    halves: the test images.
  """
  flat = np.asarray(halves.right).reshape(len(halves.right), -1)
  train = np.asarray(train).reshape(len(train), -1)

  def row(scheme, num_messages, answers):
    found = {
      'scheme': scheme,
      'num_decoders': None,
      'num_messages': num_messages,
      'images': len(flat),
      'repeats': 1,
      **tables.means({'mse': ((flat - answers) ** 2).mean(1)}),
    }
    return _with_rate(found, math.prod(halves.right.shape[1:3]))

  rows = [row('mean_image', 1, train.mean(0))]
  for num_messages in config.num_messages:
    words = list_quantiser.fit_codewords(
      train[: config.refine.num_kmeans], num_messages
    )
    nearest = np.asarray(list_quantiser.nearest(flat, words))
    rows.append(row('kmeans', num_messages, words[nearest]))
  return rows


def paper_mse(dataset: str, scheme: str, num_decoders: int, num_messages: int):
  """The paper's figure, or None; all but its baseline stand beside GLS."""
  if scheme == 'side_only':
    return None
  name = scheme if scheme == 'shared_race' else 'gls'
  row = _PAPER.get((dataset[:5], name, num_decoders), ())
  return dict(zip((4, 8, 16, 32, 64), row)).get(num_messages)


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
    setting = chosen.get(tuple(job), (None, None, None))
    row = dict(zip(_JOB, job))
    row |= {'images': values.shape[2], 'repeats': len(values)}
    row |= _measures(values)
    plain = measured.get(f'list_quantiser.{job[1]}.{job[2]}.1.1')
    if plain is not None and plain is not values:
      ahead = plain[:, 0].mean(0) - values[:, 0].mean(0)
      row |= tables.means({'ahead': ahead})
    if job[3] == 1 and _is_papers(config.train):
      row['paper_mse'] = paper_mse(config.train.dataset, *job[:3])
    row |= dict(zip(('beta', 'num_candidates'), setting))
    if scheme in ('list_quantiser', 'lattice'):
      row['num_candidates'] = None
    if scheme == 'list_quantiser':
      row['bin_size'] = bin_size
      row['is_chosen'] = bin_size == setting[2]
    height, width = config.train.model.source_shape[:2]
    rows.append(_with_rate(row, height * width))
  order = ('num_decoders', 'num_messages', 'num_groups')
  return sorted(rows, key=lambda r: [r[name] for name in order])


def as_text(rows, columns=COLUMNS) -> str:
  """The table for a terminal, and where a scheme loses to the list quantiser.

  Args:
    rows: of `codec_rows` and `plain_rows`, of any number of tables.
    columns: what is shown.
  """
  return '\n'.join([tables.as_text(rows, columns), *_behind(rows)])


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


def _behind(rows) -> list[str]:
  """For each scheme in how many cells it is ahead, and where behind."""
  found = {}
  for row in rows:
    if kind := _against_plain(row):
      found.setdefault(row['scheme'], []).append((kind, row))
  lines = []
  for scheme, cells in found.items():
    said = ', '.join(
      f'{name} in {sum(kind == name for kind, _ in cells)}'
      for name in ('ahead', 'level', 'behind')
    )
    lost = ', '.join(
      ' '.join(f'{row[name]}' for name in ('side', *_JOB[1:]) if name in row)
      + f' ({row["ahead"]:+.4f})'
      for kind, row in cells
      if kind == 'behind'
    )
    lines.append(
      f'{scheme} against the list quantiser without bins, {len(cells)} cells: '
      f'{said}' + (f'; behind at (K L G) {lost}' if lost else '')
    )
  return lines


def _is_papers(train) -> bool:
  """Whether a decoder knows what it knows in the paper."""
  return train.side_kind == 'crop' and tuple(train.model.side_shape) in (
    (7, 7), (16, 16, 3),
  )  # fmt: skip


def _measures(values) -> dict:
  """Columns of [repeats, 5, R], the repeats of one image averaged first."""
  best, mean, worst, missed, bound = values.mean(0)  # [R] each
  return {
    **tables.means({'mse': best, 'mse_mean': mean, 'mse_worst': worst}),
    'error_rate': None if np.isnan(missed).any() else float(missed.mean()),
    'error_bound': None if np.isnan(bound).any() else float(bound.mean()),
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


def jobs_of(config) -> list[Job]:
  """Every row of the codecs."""
  return [
    Job(scheme, num_decoders, num_messages, num_groups)
    for num_decoders, num_messages, scheme in itertools.product(
      config.num_decoders, config.num_messages, config.schemes
    )
    for num_groups in _groups_of(config, scheme, num_decoders)
  ]


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
  betas = fitting.betas_of(config)
  return [fits.Setting(*pair) for pair in itertools.product(betas, counts)]


def shown(config, chosen) -> list[tuple[Job, fits.Setting]]:
  """Rows of chosen settings, and of every size of a bin."""
  return [
    (job, setting)
    for job, best in chosen.items()
    for setting in (
      settings_of(config, job) if job.scheme == 'list_quantiser' else [best]
    )
  ]


def _fitted_betas(config) -> tuple[float, ...]:
  """The betas that gls_kmeans and lattice choose among: all unless named."""
  return tuple(config.refine.betas) or fitting.betas_of(config)


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


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _send(model, trials, num_messages, *, name, settings) -> Sent:
  settings = fitting.join_messages(settings, num_messages)
  prepared, encoding, decoding = fitting.transmit(
    model, trials, settings, name=name
  )
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
    context: see `fitting.Context`.
  """

  def __init__(self, context: fitting.Context):
    self.context = context
    self._fits = {}  # code -> (beta, F, G, M) -> model

  def fit(self, code: str) -> None:
    """Fits what a scheme needs, or reads it."""
    if code in self._fits:
      return
    config, found = self.context.config, {}
    if code == 'list_quantiser':
      found[None] = fitting.fit_lists(self.context)
    elif code != 'gls':
      for beta in _fitted_betas(config):
        found[beta] = fitting.fit_on_vae(self.context, code, beta)
    self._fits[code] = {
      (beta, *place): model
      for beta, models in found.items()
      for place, model in models.items()
    }

  def prepare(self, key, halves, setting, code: str = 'gls') -> fitting.Trials:
    """Sides and candidates; the sides depend on the key alone."""
    config = self.context.config
    model = self.context.models.get(setting.beta) or fitting.unfitted(config)
    return fitting.prepare(
      key, code, model, halves, config, setting.num_candidates
    )

  def send(self, job: Job, trials: fitting.Trials, setting) -> Sent:
    """One scheme at one K, L and G, on trials made for it."""
    beta, num_candidates, bin_size = setting
    if job.code == 'gls':
      model = self.context.models[beta]
    else:
      count = schemes.SCHEMES[job.code].num_codewords(*job[1:], bin_size)
      model = self._fits[job.code][beta, count, job.num_groups, bin_size]
    settings = schemes.Settings(
      num_candidates, job.num_decoders, None, job.num_groups,
      shared_race=job.scheme == 'shared_race', bin_size=bin_size,
    )  # fmt: skip
    num_messages, settings = fitting.split_messages(
      job.code, settings, job.num_messages
    )
    return _send(model, trials, num_messages, name=job.code, settings=settings)


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
  best = dict.fromkeys(jobs, np.inf)
  wanted = sorted({s for settings in choices.values() for s in settings})
  for setting in tqdm.tqdm(wanted, desc='choice of settings'):
    trials = table.prepare(key, halves, setting, jobs[0].code)
    for job in jobs:
      if setting in choices[job]:
        error = np.asarray(table.send(job, trials, setting).error)
        mean = float(error.min(1).mean())
        if mean < best[job]:
          best[job], chosen[job] = mean, setting
  return chosen


def spread(halves, count):
  """`count` images evenly spread: the ends of a test set differ."""
  places = np.linspace(0, len(halves.right) - 1, min(count, len(halves.right)))
  return type(halves)(*(x[places.astype(int)] for x in halves))


def _name(job: Job, bin_size: int = 1) -> str:
  """Of a job's arrays in files."""
  return '.'.join(map(str, (*job, bin_size)))


def _side_only(table, trials) -> dict[str, np.ndarray]:
  """Measures of the answers to the sides alone, for every K."""
  if not table.context.models:
    return {}
  model = next(iter(table.context.models.values()))
  sides, right = trials.sides, trials.right
  answers = jax.jit(model.networks.side_only)(
    model.params, sides.reshape(-1, *sides.shape[2:])
  )
  answers = answers.reshape(*sides.shape[:2], *right.shape[1:])
  error = np.asarray(squared_error(answers, right))
  missing = np.full_like(error, np.nan)
  return {
    _name(Job('side_only', count, 1)): measure(
      error[:, :count], missing[:, :count], missing[:, 0]
    )
    for count in table.context.config.num_decoders
  }


def repeat(table: Table, halves, chosen, key) -> dict[str, np.ndarray]:
  """Every row on the images once: name -> [5, R], see `MEASURES`."""
  found, groups = {}, {}
  for job, setting in shown(table.context.config, chosen):
    groups.setdefault(setting, []).append(job)
  for setting, jobs in groups.items():
    trials = table.prepare(key, halves, setting, jobs[0].code)
    for job in jobs:
      sent = table.send(job, trials, setting)
      found[_name(job, setting.bin_size)] = measure(
        sent.error, sent.found, sent.error_bound
      )
  return found | _side_only(table, trials)


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


def _repeats(record, table, halves, code, seed):
  """Jobs of one code, repeated: name -> [repeats, 5, R], and the settings."""
  config = table.context.config
  jobs = [job for job in jobs_of(config) if job.code == code]
  record.deal([jobs], lambda jobs: _settle(table, jobs, seed))
  chosen = _settle(table, jobs, seed)
  names = {_name(job, s.bin_size) for job, s in shown(config, chosen)}
  if table.context.models:
    names |= {_name(Job('side_only', k, 1)) for k in config.num_decoders}

  def one(i):
    part = record.load(f'repeats/{code}_{i}')
    if part is None or not names <= part.keys():
      key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.REPEAT, i)
      part = repeat(table, halves, chosen, key)
      record.save(f'repeats/{code}_{i}', part)
    return part

  numbers = range(config.num_repeats)
  record.deal(numbers, one)
  parts = [one(i) for i in tqdm.tqdm(numbers, desc=f'{code}, repeats')]
  return {k: np.stack([p[k] for p in parts]) for k in sorted(names)}, chosen


def _check_models(record, models) -> None:
  """Refuses results of other networks of the same settings."""
  digests = {f'beta {b:g}': files.digest(m.params) for b, m in models.items()}
  if not models:
    return
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
    models = fitting.train_models(config, record.workdir)
    _check_models(record, models)
    table = Table(fitting.Context(config, record.workdir, halves, models))
    found = _fill(record, table, seed)
    record.note(pixels='in [0, 1]; squared error per pixel (and colour)')
    return found

  images = files.digest({k: v._asdict() for k, v in halves.items()})
  return {'images': images, 'measures': MEASURES}, fill


def _fill(record, table: Table, seed: int) -> list[dict]:
  """The rows, written after each scheme, and the pictures."""
  config, halves = table.context.config, table.context.halves
  test = spread(halves['test'], config.num_images)
  plain = plain_rows(config, halves['train'].right, test)
  errors, chosen = {}, {}
  # The cheap ones first; gls and its baseline share their trials.
  for code in ('list_quantiser', 'gls', 'lattice', 'gls_kmeans'):
    if any(job.code == code for job in jobs_of(config)):
      record.deal([code], table.fit)
      table.fit(code)
      more, settings = _repeats(record, table, test, code, seed)
      errors, chosen = errors | more, chosen | settings
      found = plain + codec_rows(config, errors, chosen)
      record.write(found)  # so far
      record.note(table=found)
  if leads():
    _draw_examples(table, test, chosen, record.workdir, seed)
  return found


def _draw_examples(table, halves, chosen, workdir, seed) -> None:
  """Draws images found by all, some and none of the decoders, by scheme."""
  config = table.context.config
  num_decoders = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.PICTURES)
  few = spread(halves, 64)  # neighbours of a photograph are alike
  for scheme in config.schemes:
    groups = _groups_of(config, scheme, num_decoders)
    job = Job(scheme, num_decoders, num_messages, *groups[:1])
    if job not in chosen:
      continue
    trials = table.prepare(key, few, chosen[job], job.code)
    sent = table.send(job, trials, chosen[job])
    figures.examples(
      few, trials.sides, sent, workdir / f'examples_{scheme}.png',
      title=f'{scheme}, {np.log2(num_messages):.3g} bits to {num_decoders} '
      'decoders',
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
  """Rows with two codecs of the same K and L beside them, by their PSNR.

  The list quantiser without bins: that which knows as much, and that which
  knows nothing, where the sweep has one.
  """
  plain = {
    (row['side'], row['num_decoders'], row['num_messages']): row['psnr']
    for row in rows
    if row['scheme'] == 'list_quantiser' and row['bin_size'] == 1
  }

  def cell(row, side):
    return plain.get((side, row['num_decoders'], row['num_messages']))

  return [
    row
    | {'psnr_plain': cell(row, row['side']), 'psnr_blind': cell(row, 'none')}
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
  tables.Column('side', 'side'),
  *COLUMNS[:_PLACE],
  tables.Column('no bins', 'psnr_plain', '.2f'),
  tables.Column('no side', 'psnr_blind', '.2f'),
  *COLUMNS[_PLACE:],
)
run_sweep = Experiment(
  FIELDS | {'sides': lambda sides: None},  # `_points` says more
  _prepare_sweep,
  functools.partial(as_text, columns=_SWEEP_COLUMNS),
  {},
  may_change=(*run.may_change, 'config.sides'),
)
