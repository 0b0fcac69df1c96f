"""Untrained models and fits, laid out as training and evaluation leave them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from configs import vae_digits
from listcoupling.experiments import results
from listcoupling.models import refiner, refiner_files
from listcoupling.training import vae as training

CELLS = 12  # at most: 6 messages to 2 decoders
SETTINGS = {
  'num_decoders': [1, 2],
  'num_messages': [4, 6],
  'most_messages': 6,
  'refine': {'hidden_size': 8, 'num_candidates': 64},
}


def save_vae(directory, seed, beta=0.3, step=None):
  """A VAE in a folder of its own, as of the last step unless told."""
  config = vae_digits.get_config().train
  config.seed, config.beta = seed, beta
  model_config = training.check_config(config)
  state = training.init_state(jax.random.key(seed), config, model_config)
  directory.mkdir(parents=True)
  with ocp.CheckpointManager((directory / 'checkpoints').absolute()) as manager:
    manager.save(step or config.steps, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
  (directory / 'train_config.json').write_text(config.to_json())


def settings():
  """What config.json beside the fits holds."""
  train = vae_digits.get_config().train.to_dict()
  return results.plain({**SETTINGS, 'train': train})


@functools.cache
def random_fit(seed, num_cells, has_classifier):
  """A fit whose answers depend on cell, latent, crop and list size."""
  config = refiner_files.config_of(settings())
  rng, latents = np.random.default_rng(seed), jnp.zeros((1, config.latent_size))
  words = rng.uniform(size=(num_cells, *config.source_shape))

  def init():
    key = jax.random.key(0)
    label = refiner.CellClassifier(config.num_cells).init(key, latents)
    return refiner.init_params(key, config, words), label['params']

  params, labeller = jax.tree.map(
    lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32),
    jax.eval_shape(init),
  )
  words = words.reshape(num_cells, -1).astype(np.float32)
  return refiner_files.Refined(
    config, words, params, labeller if has_classifier else None
  )


def save_workdir(directory, seed):
  """Two VAEs; fits of 4 messages on both, 6 on one; lists of 8 and 12."""
  for beta in (0.3, 1.0):
    save_vae(directory / f'model_beta_{beta:g}', seed + int(beta), beta)
  results.write_json(directory / 'refined' / 'config.json', settings())
  for count, beta in ((4, 0.3), (4, 1.0), (6, 0.3)):
    refiner_files.write(
      refiner_files.cells_path(directory, count, beta),
      random_fit(seed + count, count, True),
    )
  for count in (8, 12):
    refiner_files.write(
      refiner_files.list_path(directory, count),
      random_fit(seed + count, count, False),
    )
