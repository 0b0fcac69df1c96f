"""Tables that two processes fill together; run by `process_cases`."""

import functools
import os
import signal

from configs import decoding_matching
from configs import toy as toy_config
from listcoupling.decoding import placement
from listcoupling.experiments import run, toy
from listcoupling.experiments.language import matching, protocol
from tests import fakes
from tests.experiments.language import fakes as letters

TEXTS = {'a': 'x, "y"', 'b': '', 'c': '1.50', 'd': 'é', 'e': 'z'}


def synthetic(folder, failing=None):
  """Rows that say who made them to `made`, and arrays dealt out."""
  made = []

  def compute(name):
    made.append(name)
    if name == failing:
      raise KeyboardInterrupt
    return {'text': TEXTS[name], 'size': len(TEXTS[name]) / 3}

  def keep(number):
    if held.load(f'part_{number}') is None:
      made.append(number)
      held.save(f'part_{number}', {'x': [number, 2 * number]})
    return held.load(f'part_{number}')['x']

  with run.open_run(folder, {'seed': 0}) as held:
    rows = held.rows({x: x for x in TEXTS}, compute, key='name')
    held.deal(range(3), keep)
    rows += [{'name': str(i), 'size': int(keep(i).sum())} for i in range(3)]
    held.write(rows, 'all.csv')
  return made


def toy_table(folder):
  """A table of the package."""
  config = toy_config.get_config()
  config.update(num_pairs=3, trials=64, num_atoms=5, num_drafts=(1, 2, 3))
  return toy.run(config, folder)


def language_table(prompts, folder, mesh=''):
  """Rows of two batches, dealt out or on a mesh."""
  protocol.load_pair = lambda *_: letters.pair()
  config = letters.config_of(
    prompts,
    decoding_matching.get_config(),
    datasets=('gsm8k',),
    num_drafts=(2,),
    repetitions=20,
  )
  shared = placement.parse_mesh(mesh)
  table = matching.run if shared is None else matching.run.on(shared)
  return table(config, folder)


def shared_rows(folder, process, made, stopping=False):
  """Rows that both make; Ctrl-C comes to process 1 in the second."""

  def compute(name):
    if name == 'b' and process == 1 and stopping:
      os.kill(os.getpid(), signal.SIGINT)
    made.append(name)
    return {'process': process}

  with run.open_run(folder, {'seed': 0}) as held:
    jobs = {x: x for x in TEXTS}
    return held.rows(jobs, compute, key='name', shared=True)


def tables(results, process, folder):
  """Made together, stopped and resumed, and refused."""
  found = {}
  found['made'] = synthetic(folder / 'together')
  try:
    synthetic(folder / 'stopped', failing='c' if process == 0 else None)
  except KeyboardInterrupt as stop:
    found['stopped'] = ' '.join(stop.__notes__)
    found['kept'] = (folder / 'stopped/results.csv').read_text()
  found['resumed'] = synthetic(folder / 'stopped')
  toy_table(folder / 'toy')

  def other():
    with run.open_run(folder / 'other', {'seed': process}):
      pass

  def inverse(x):
    if x == 0:
      raise ValueError('a number is missing')
    return {'y': 1 / x}

  def failing():
    with run.open_run(folder / 'failed', {'seed': 0}) as held:
      held.rows({0: 1, 1: 0}, inverse, key='x')

  fill = functools.partial(language_table, folder / 'prompts')
  fill(folder / 'language')
  fill(folder / 'language on a mesh', 'data=2')
  found['one process'] = fakes.refusal(fill, folder / 'other', 'tp=1')
  found['shared'] = []
  try:
    shared_rows(folder / 'shared', process, found['shared'], stopping=True)
  except KeyboardInterrupt:
    found['shared'].append('stopped')
  found['shared rows'] = shared_rows(
    folder / 'shared', process, found['shared']
  )

  found['settings'] = fakes.refusal(other)
  found['failed'] = fakes.refusal(failing)
  found['written'] = (folder / 'other').exists()
  results['tables'] = found


CASES = (tables,)
