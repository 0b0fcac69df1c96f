"""Tables that two processes fill together; run by `process_cases`."""

from configs import toy as toy_config
from listcoupling.experiments import run, toy
from tests import fakes

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

  found['settings'] = fakes.refusal(other)
  found['failed'] = fakes.refusal(failing)
  found['written'] = (folder / 'other').exists()
  results['tables'] = found


CASES = (tables,)
