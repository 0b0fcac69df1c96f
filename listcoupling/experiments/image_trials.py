"""One image set through every scheme: choice of settings, then repeats.

beta and the number of candidates are chosen for each K and L on images held
out from training, with other keys than those of the final figures, which come
from the test set. A repeat draws crops, candidates, labels and races anew.
"""

import itertools
import pathlib

import jax
import numpy as np
import tqdm

from listcoupling.experiments import image_fits, image_schemes
from listcoupling.training import vae as training

COLUMNS = ('best error', 'mean error', 'missed', 'bound at N candidates')
_SELECTION = 1_000_003  # folded into the seed: no key of a repeat


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


def name_of(job) -> str:
  """Of a job, (scheme, K, L), in files."""
  scheme, num_decoders, num_messages = job
  return f'{scheme}.{num_decoders}.{num_messages}'


def measure(sent) -> np.ndarray:
  """[4, R], see `COLUMNS`."""
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
  """Every job on the images once: name -> [4, R], see `COLUMNS`."""
  found, groups = {}, {}
  for job, setting in chosen.items():
    groups.setdefault(setting, []).append(job)
  for setting, jobs in groups.items():
    trials = table.prepare(key, halves, *setting)
    for job in jobs:
      sent = table.send(job, trials, setting[0], halves.right)
      found[name_of(job)] = measure(sent)
  error = _side_only(table, trials.sides, halves.right)
  for count in table.context.config.num_decoders:
    part = error[:, :count]
    nothing = np.full(len(error), np.nan)
    found[name_of(('side_only', count, 1))] = np.stack(
      [part.min(1), part.mean(1), nothing, nothing]
    )
  return found
