"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, Tables 13 to 16 and
Figs. 3 and 4: the mean over test images of the squared error per pixel of the
best of K decoders; pixels are in [0, 1]. The schemes are those of
`image_schemes`. Beside them stand the rows that every such table needs: the
mean image, the side information alone, and k-means with as many codewords as
there are messages and no side information.
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
  image_trials,
  results,
  resume,
)
from listcoupling.training import vae as training

SCHEMES = image_schemes.SCHEMES
as_text = image_rows.as_text


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
      'columns': image_trials.COLUMNS,
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
  chosen = image_trials.select(table, jobs, seed)
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
  names, parts = {image_trials.name_of(job) for job in (*jobs, *sides)}, []
  for i in tqdm.tqdm(range(config.num_repeats), desc=f'{group[0]}, repeats'):
    path = workdir / 'repeats' / f'{group[0]}_{i}.npz'
    part = _finished(path, names)
    if part is None:
      key = jax.random.fold_in(jax.random.key(seed), i)
      part = image_trials.repeat(table, halves, chosen, key)
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
  table = image_trials.Table(config, workdir, halves)
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


def save_examples(table, halves, chosen, workdir, seed) -> None:
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
