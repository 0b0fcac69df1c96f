"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, Tables 13 to 16 and
Figs. 3 and 4: the mean over test images of the squared error per pixel of the
best of K decoders; pixels are in [0, 1]. The schemes are those of
`image_schemes`. Beside them stand the rows that every such table needs: the
mean image, the side information alone, and k-means with as many codewords as
there are messages and no side information.

beta and the number of candidates are chosen for each K and L on images held
out from training, with other keys than those of the final figures, which come
from the test set. A repeat draws crops, candidates, labels and races anew.
"""

import itertools
import pathlib

import jax
import numpy as np
import tqdm

from listcoupling.compression import container
from listcoupling.experiments import (
  image_fits,
  image_plots,
  image_rows,
  image_schemes,
  results,
  resume,
)
from listcoupling.training import vae as training

SCHEMES = image_schemes.SCHEMES
as_text = image_rows.as_text
_COLUMNS = ('best error', 'mean error', 'missed', 'bound at N candidates')
_SELECTION = 1_000_003  # folded into the seed: no key of a repeat


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  training.check_config(config.train)
  for name in ('num_decoders', 'num_messages', 'num_candidates'):
    if not len(config[name]) or min(config[name]) < 1:
      raise ValueError(f'{name} must hold positive values, got {config[name]}.')
  if max(config.num_candidates) < max(config.num_messages):
    raise ValueError(
      f'num_candidates must reach num_messages, got {config.num_candidates} '
      f'for {config.num_messages}.'
    )
  if config.num_images < 2 or config.num_repeats < 1:
    raise ValueError(
      'num_images must be at least 2 and num_repeats at least 1, got '
      f'{config.num_images} and {config.num_repeats}.'
    )
  if any(not beta > 0 for beta in config.betas):
    raise ValueError(f'betas must be positive, got {config.betas}.')
  unknown = set(config.schemes) - set(SCHEMES)
  if unknown:
    raise ValueError(f'schemes must be among {SCHEMES}, got {sorted(unknown)}.')
  if config.num_held_out_images and not config.train.num_held_out:
    raise ValueError(
      'the choice of settings needs train.num_held_out images, got 0.'
    )


def jobs_of(config) -> list[tuple]:
  """(scheme, K, L) of every row of the codecs."""
  return [
    (scheme, num_decoders, num_messages)
    for num_decoders, num_messages, scheme in itertools.product(
      config.num_decoders, config.num_messages, config.schemes
    )
    if scheme != 'shared_race' or num_decoders > 1  # else the same as gls
  ]


def refined_betas(config) -> tuple[float, ...]:
  """The betas that `cells` chooses among: all unless named."""
  return tuple(config.refine.betas) or image_fits.betas_of(config)


def settings_of(config, scheme, num_messages) -> list[tuple]:
  """(beta, N) among which a scheme chooses; N of at least L."""
  betas = image_fits.betas_of(config)
  if scheme == 'list_quantiser':
    return [(betas[0], 1)]  # no candidates: only the crops are looked at
  if scheme == 'cells':
    return [(b, config.refine.num_candidates) for b in refined_betas(config)]
  counts = [n for n in config.num_candidates if n >= num_messages]
  return list(itertools.product(betas, counts))


class Table:
  """Sends images by any scheme; fits what is missing.

  Args:
    config: see configs/vae_mnist.py.
    workdir: where models and fits are kept.
    halves: of `training.load_halves`; read if left out.
  """

  def __init__(self, config, workdir, halves=None):
    self.context = image_fits.Context(
      config, pathlib.Path(workdir),
      halves or training.load_halves(config.train),
      image_fits.train_models(config, workdir),
    )  # fmt: skip
    self.lists, self.cells = {}, {}

  def fit(self, scheme) -> None:
    """Fits what a scheme needs, or reads it."""
    if scheme == 'list_quantiser' and not self.lists:
      self.lists = image_fits.fit_lists(self.context)
    if scheme == 'cells' and not self.cells:
      self.cells = {
        beta: image_fits.fit_cells(self.context, beta)
        for beta in refined_betas(self.context.config)
      }

  def prepare(self, key, halves, beta, num_candidates):
    """Crops and candidates; the crops depend on the key alone."""
    return image_fits.prepare(
      key, self.context.models[beta], halves, self.context.config,
      num_candidates,
    )  # fmt: skip

  def send(self, job, trials, beta, right) -> image_schemes.Sent:
    """One scheme at one K and L, on trials made for it."""
    scheme, num_decoders, num_messages = job
    if scheme == 'list_quantiser':
      refined = self.lists[num_decoders * num_messages]
      return image_schemes.send_list(refined, trials.sides, right, num_decoders)
    if scheme == 'cells':
      refined = self.cells[beta][num_messages]
      return image_schemes.send_cells(
        refined, trials, right, num_decoders, num_messages
      )
    return image_schemes.send_gls(
      self.context.models[beta], trials, right, num_decoders, num_messages,
      scheme == 'shared_race',
    )  # fmt: skip


def select(table: Table, jobs, seed: int) -> dict[tuple, tuple]:
  """(scheme, K, L) -> (beta, N), the best on held-out training images.

  Without `config.num_held_out_images` the first setting of each scheme.
  """
  config = table.context.config
  choices = {job: settings_of(config, job[0], job[2]) for job in jobs}
  chosen = {job: settings[0] for job, settings in choices.items()}
  if not config.num_held_out_images or max(map(len, choices.values())) == 1:
    return chosen
  halves = image_fits.spread(
    table.context.halves['select'], config.num_held_out_images
  )
  key = jax.random.fold_in(jax.random.key(seed), _SELECTION)
  best = dict.fromkeys(jobs, np.inf)
  wanted = sorted({s for settings in choices.values() for s in settings})
  for setting in tqdm.tqdm(wanted, desc='choice of settings'):
    trials = table.prepare(key, halves, *setting)
    for job in jobs:
      if setting in choices[job]:
        error = table.send(job, trials, setting[0], halves.right).error
        mean = float(error.min(1).mean())
        if mean < best[job]:
          best[job], chosen[job] = mean, setting
  return chosen


def _name(job) -> str:
  scheme, num_decoders, num_messages = job
  return f'{scheme}.{num_decoders}.{num_messages}'


def _measure(sent) -> np.ndarray:
  """[4, R], see `_COLUMNS`."""
  bound = sent.error_bound
  if bound is None:
    bound = np.full(len(sent.error), np.nan)
  missed = ~sent.found.any(1)
  return np.stack([sent.error.min(1), sent.error.mean(1), missed, bound])


def _side_only(table, sides, right) -> np.ndarray:
  """Squared error [R, K] of the answers to the crops alone."""
  model = next(iter(table.context.models.values()))
  answers = model.networks.side_only(
    model.params, sides.reshape(-1, *sides.shape[2:])
  )
  answers = answers.reshape(*sides.shape[:2], *right.shape[1:])
  return image_schemes.squared_error(answers, right)


def repeat(table: Table, halves, chosen, key) -> dict[str, np.ndarray]:
  """Every job on the images once: name -> [4, R], see `_COLUMNS`."""
  found, groups = {}, {}
  for job, setting in chosen.items():
    groups.setdefault(setting, []).append(job)
  for setting, jobs in groups.items():
    trials = table.prepare(key, halves, *setting)
    for job in jobs:
      sent = table.send(job, trials, setting[0], halves.right)
      found[_name(job)] = _measure(sent)
  error = _side_only(table, trials.sides, halves.right)
  for count in table.context.config.num_decoders:
    part = error[:, :count]
    nothing = np.full(len(error), np.nan)
    found[_name(('side_only', count, 1))] = np.stack(
      [part.min(1), part.mean(1), nothing, nothing]
    )
  return found


def _groups(config) -> list[tuple[str, ...]]:
  """Schemes that share their trials, the cheap ones first."""
  groups = (('list_quantiser',), ('gls', 'shared_race'), ('cells',))
  return [
    group for group in groups if any(name in config.schemes for name in group)
  ]


def _claim(config, workdir, halves, seed) -> None:
  """Refuses a workdir of other settings or images, see `resume.claim`."""
  settings = config.to_dict()
  for name in ('num_repeats', 'schemes'):  # may grow
    settings.pop(name)
  resume.claim(
    workdir / 'settings.json',
    {
      'seed': seed,
      'config': settings,
      'images': container.digest({k: v._asdict() for k, v in halves.items()})
      .hex(),
      'columns': _COLUMNS,
    },
    work=[*workdir.glob('choice/*.json'), *workdir.glob('repeats/*.npz')],
  )  # fmt: skip


def _claim_models(table, workdir) -> None:
  """Refuses results of other networks of the same settings."""
  models = table.context.models.items()
  resume.claim(
    workdir / 'models.json',
    {f'beta {b:g}': container.digest(m.params).hex() for b, m in models},
  )


def _settle(table, jobs, path, seed) -> dict[tuple, tuple]:
  """`select`, kept at `path`."""
  if path.exists():
    kept = results.read_json(path)['chosen']
    chosen = {tuple(job): tuple(setting) for job, setting in kept}
    if set(jobs) <= chosen.keys():
      return {job: chosen[job] for job in jobs}
  chosen = select(table, jobs, seed)
  results.write_json(path, {'chosen': list(chosen.items())})
  return chosen


def _finished(path, names) -> dict[str, np.ndarray] | None:
  """A repeat kept at `path`, or None if it lacks one of the names."""
  if not path.exists():
    return None
  try:
    with np.load(path) as kept:
      return {n: kept[n] for n in names} if names <= set(kept.files) else None
  except Exception as error:  # zip and npy raise many kinds
    raise ValueError(f'{path} is damaged ({error}); remove it.') from error


def _repeats(table, halves, group, workdir, seed):
  """name -> [repeats, 4, R], and the settings; reads what is finished."""
  config = table.context.config
  jobs = [job for job in jobs_of(config) if job[0] in group]
  chosen = _settle(table, jobs, workdir / 'choice' / f'{group[0]}.json', seed)
  sides = [('side_only', count, 1) for count in config.num_decoders]
  names, parts = {_name(job) for job in (*jobs, *sides)}, []
  for i in tqdm.tqdm(range(config.num_repeats), desc=f'{group[0]}, repeats'):
    path = workdir / 'repeats' / f'{group[0]}_{i}.npz'
    part = _finished(path, names)
    if part is None:
      key = jax.random.fold_in(jax.random.key(seed), i)
      part = repeat(table, halves, chosen, key)
      with results.replacing(path) as new:
        np.savez(new, **part)
    parts.append(part)
  return {k: np.stack([p[k] for p in parts]) for k in sorted(names)}, chosen


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Trains or reads the models, evaluates, writes table and pictures.

  Args:
    config: see configs/vae_mnist.py.
    workdir: folder of the models, refined/, choice/, repeats/, results.csv,
      results.json, rate_distortion.png and examples.png. What is finished is
      not repeated; repeats and schemes may be added.
    seed: of choice and evaluation; training has its own, config.train.seed.

  Returns:
    One dictionary per row, the columns of results.csv.

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if the images are missing.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  halves = training.load_halves(config.train)
  _claim(config, workdir, halves, seed)
  table = Table(config, workdir, halves)
  _claim_models(table, workdir)
  halves = image_fits.spread(table.context.halves['test'], config.num_images)
  known = table.context.halves['train'].right
  plain = image_rows.plain_rows(config, known, halves)
  errors, chosen = {}, {}
  for group in _groups(config):
    for scheme in group:
      table.fit(scheme)
    more, settings = _repeats(table, halves, group, workdir, seed)
    errors, chosen = errors | more, chosen | settings
    rows = plain + image_rows.codec_rows(config, errors, chosen)
    results.write_csv(workdir / 'results.csv', rows)  # so far
  results.write_json(
    workdir / 'results.json',
    {
      'config': config,
      'seed': seed,
      'pixels': 'in [0, 1]; squared error per pixel (and colour)',
      'environment': results.environment(),
    },
  )
  image_plots.rate_distortion(rows, workdir / 'rate_distortion.png')
  save_examples(table, halves, chosen, workdir, seed)
  return rows


def save_examples(table: Table, halves, chosen, workdir, seed) -> None:
  """Draws images found by all, some and none of the decoders, by scheme."""
  config = table.context.config
  num_decoders = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  key = jax.random.key(seed)
  few = type(halves)(*(x[:64] for x in halves))
  for scheme in config.schemes:
    job = scheme, num_decoders, num_messages
    if job not in chosen:
      continue
    setting = chosen[job]
    trials = table.prepare(key, few, *setting)
    sent = table.send(job, trials, setting[0], few.right)
    image_plots.examples(
      few.left, few.right, trials.sides, sent.images, sent.found, sent.error,
      workdir / f'examples_{scheme}.png',
      title=f'{scheme}, {np.log2(num_messages):.3g} bits to {num_decoders} '
      'decoders',
    )  # fmt: skip
