"""Trainings of two processes together; run by `process_cases`."""

import os
import pathlib
import signal

import jax
from absl import flags

from configs import vae_digits
from listcoupling import command_flags, files
from listcoupling.decoding import placement
from listcoupling.models import pretrained
from listcoupling.training import language_model, vae
from tests import fakes
from tests.training import tiny_text

STOPPED = 2  # Ctrl-C comes before this step


def text_config(folder: pathlib.Path):
  """Six steps on the text in a folder."""
  config = tiny_text.small_config(folder / 'text.txt')
  config.update(num_steps=6, eval_every=3, checkpoint_every=3, log_every=1)
  return config


def digest(params):
  """Of parameters that may be shared."""
  return files.digest(jax.tree.map(placement.fetch, params))


def interrupted(make_steps):
  """`make_steps` whose step `STOPPED` is met by Ctrl-C."""

  def make(*args):
    train, evaluate = make_steps(*args)

    def step(state, tokens, key, number, teacher):
      if number == STOPPED:
        os.kill(os.getpid(), signal.SIGINT)
      return train(state, tokens, key, number, teacher)

    return step, evaluate

  return make


def train_text(results, process, folder):
  """A run that Ctrl-C in process 1 ends in both; then they go on."""
  config, mesh = text_config(folder), placement.parse_mesh('fsdp=2')
  make_steps = language_model.make_steps
  if process == 1:
    language_model.make_steps = interrupted(make_steps)
  try:
    language_model.train_and_evaluate(config, folder / 'run', mesh=mesh)
    stopped = None
  except KeyboardInterrupt:
    stopped = sorted(p.name for p in (folder / 'run/checkpoints').iterdir())
  language_model.make_steps = make_steps
  found = language_model.train_and_evaluate(config, folder / 'run', mesh=mesh)
  pretrained.save_pretrained(found.model, folder / 'model')
  embed = found.model.params['embed']
  results['text'] = {
    'stopped': stopped,
    'losses': [row['train'] for row in found.record['history']],
    'digest': digest(found.model.params),
    'shard': list(embed.addressable_data(0).shape),
  }


def train_images(results, process, folder):
  """The image codec; the second call only reads."""
  config = vae_digits.get_config().train
  config.model.update(hidden_size=8, side_features=4, estimator_size=4)
  config.update(steps=4, steps_per_call=2, num_negatives=2)
  mesh = placement.parse_mesh('data=2')
  _, params = vae.train(config, folder / 'images', mesh=mesh)
  _, again = vae.train(config, folder / 'images', mesh=mesh)
  results['images'] = {
    'digest': digest(params),
    'same': digest(again) == digest(params),
  }


def refusals(results, process, folder):
  """Calls that differ, or leave a process out; nothing is written."""

  def message(config, mesh):
    train, place = language_model.train_and_evaluate, folder / 'refused'
    return fakes.refusal(train, config, place, mesh=mesh)

  config, mesh = text_config(folder), placement.parse_mesh('data=2')
  changed = text_config(folder)
  changed.learning_rate *= 1 + process
  bad = text_config(folder)
  bad.batch_size = 3 + process
  own_mesh = command_flags.define_mesh()
  flags.FLAGS(['a script', f'--mesh=data={2 - process}'])
  results['refused'] = {
    'settings': message(changed, mesh),
    'batch': message(bad, mesh),
    'no mesh': message(config, None),
    'one process': message(config, placement.parse_mesh('tp=1')),
    'flags': fakes.refusal(own_mesh),
    'written': (folder / 'refused').exists(),
  }


CASES = (train_text, train_images, refusals)
