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

Legend: R images, N candidates, K decoders, L messages, G groups, M codewords of
a bin.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling import bounds, files, gumbel, tables
from listcoupling.config_fields import Field
from listcoupling.experiments.images import figures, fitting, rows
from listcoupling.experiments.run import Experiment
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.image_codec.bitstream import MAX_CANDIDATES
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
    _name(Job('side_only', count, 1)): rows.measure(
      error[:, :count], missing[:, :count], missing[:, 0]
    )
    for count in table.context.config.num_decoders
  }


def repeat(table: Table, halves, chosen, key) -> dict[str, np.ndarray]:
  """Every row on the images once: name -> [5, R], see `rows.MEASURES`."""
  found, groups = {}, {}
  for job, setting in shown(table.context.config, chosen):
    groups.setdefault(setting, []).append(job)
  for setting, jobs in groups.items():
    trials = table.prepare(key, halves, setting, jobs[0].code)
    for job in jobs:
      sent = table.send(job, trials, setting)
      found[_name(job, setting.bin_size)] = rows.measure(
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


def _repeats(run, table, halves, code, seed):
  """Jobs of one code, repeated: name -> [repeats, 5, R], and the settings."""
  config = table.context.config
  jobs = [job for job in jobs_of(config) if job.code == code]
  run.deal([jobs], lambda jobs: _settle(table, jobs, seed))
  chosen = _settle(table, jobs, seed)
  names = {_name(job, s.bin_size) for job, s in shown(config, chosen)}
  if table.context.models:
    names |= {_name(Job('side_only', k, 1)) for k in config.num_decoders}

  def one(i):
    part = run.load(f'repeats/{code}_{i}')
    if part is None or not names <= part.keys():
      key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.REPEAT, i)
      part = repeat(table, halves, chosen, key)
      run.save(f'repeats/{code}_{i}', part)
    return part

  numbers = range(config.num_repeats)
  run.deal(numbers, one)
  parts = [one(i) for i in tqdm.tqdm(numbers, desc=f'{code}, repeats')]
  return {k: np.stack([p[k] for p in parts]) for k in sorted(names)}, chosen


def _check_models(run, models) -> None:
  """Refuses results of other networks of the same settings."""
  digests = {f'beta {b:g}': files.digest(m.params) for b, m in models.items()}
  if not models:
    return
  kept = run.rows(
    digests,
    lambda digest: {'sha256': digest},
    key='model',
    table='models.csv',
  )
  changed = [r['model'] for r in kept if r['sha256'] != digests[r['model']]]
  if changed:
    raise ValueError(
      f'{run.workdir} holds results of other networks of {changed}: put them '
      'back or choose another workdir.'
    )


def _prepare(config, seed):
  """Trains or reads the models, then one scheme after the other.

  The folder gets model*/, fits/, choice/, repeats/ and examples_*.png, too.
  Several processes want trained models: a training is on a mesh or alone.
  The seed is of choice and evaluation; training has its own, train.seed.
  """
  _check_sizes(config)
  halves = training.load_halves(config.train)

  def fill(run):
    models = fitting.train_models(config, run.workdir)
    _check_models(run, models)
    table = Table(fitting.Context(config, run.workdir, halves, models))
    found = _fill(run, table, seed)
    run.note(pixels='in [0, 1]; squared error per pixel (and colour)')
    return found

  images = files.digest({k: v._asdict() for k, v in halves.items()})
  return {'images': images, 'measures': rows.MEASURES}, fill


def _fill(run, table: Table, seed: int) -> list[dict]:
  """The rows, written after each scheme, and the pictures."""
  config, halves = table.context.config, table.context.halves
  test = spread(halves['test'], config.num_images)
  plain = rows.plain_rows(config, halves['train'].right, test)
  errors, chosen = {}, {}
  # The cheap ones first; gls and its baseline share their trials.
  for code in ('list_quantiser', 'gls', 'lattice', 'gls_kmeans'):
    if any(job.code == code for job in jobs_of(config)):
      run.deal([code], table.fit)
      table.fit(code)
      more, settings = _repeats(run, table, test, code, seed)
      errors, chosen = errors | more, chosen | settings
      found = plain + rows.codec_rows(config, errors, chosen)
      run.write(found)  # so far
      run.note(table=found)
  if leads():
    _draw_examples(table, test, chosen, run.workdir, seed)
  return found


def _draw_examples(table, halves, chosen, workdir, seed) -> None:
  """Draws images found by all, some and none of the decoders, by scheme."""
  config = table.context.config
  num_decoders = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  key = gumbel.domain_key(gumbel.seed_key(seed), gumbel.Domain.PICTURES)
  few = type(halves)(*(x[:64] for x in halves))
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


TABLE = Experiment(
  FIELDS,
  _prepare,
  rows.as_text,
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


def _prepare_sweep(config, seed):
  """A table in a folder of its own for each kind of side information."""
  points = _points(config)

  def fill(run):
    found = []
    for name, point in points.items():
      made = TABLE.run(point, run.workdir / name, seed)
      found += [{'side': name, **row} for row in made]
      run.write(found)  # so far
    run.note(table=found)
    for count in config.num_decoders if leads() else ():
      mine = [r for r in found if r['num_decoders'] == count]
      figures.sweep(mine, run.workdir / f'sweep_{count}.png')
    return found

  return {}, fill


SWEEP = Experiment(
  FIELDS | {'sides': lambda sides: None},  # `_points` says more
  _prepare_sweep,
  functools.partial(
    rows.as_text, columns=(tables.Column('side', 'side'), *rows.COLUMNS)
  ),
  {},
  may_change=(*TABLE.may_change, 'config.sides'),
)
