"""The library in three minutes: couplings, text, digits.

  python scripts/demo.py --workdir runs/demo

Needs no network: the language models ship with the library and the digits
come with scikit-learn. Plots and tables go to the workdir.
"""

import listcoupling.early_exits  # noqa: F401

import importlib
import pathlib
import sys
import time

from absl import app, flags

import listcoupling as lc
from listcoupling import command, tables
from listcoupling.decoding import comparison
from listcoupling.experiments import images, toy
from listcoupling.experiments.language import block_efficiency
from listcoupling.models import pretrained

# Configs are a folder beside the package.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

_WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'For plots and tables.')
_SEED = command.define_seed(0, 'Seed of everything.')

_PROMPTS = (
  'def main(argv):\n    ',
  'class Parser(object):\n    """',
  'The with statement is used to',
  'for name in sorted(names):\n    if ',
)
_METHODS = ('autoregressive', 'single', 'gls', 'specinfer', 'gumbel_tree')


def _config(name):
  return importlib.import_module(f'configs.{name}').get_config()


def _couplings(workdir):
  """One pair of laws, then acceptance against K on a few."""
  print(toy.coupling_table(_SEED.value))
  config = _config('toy')
  config.update(num_pairs=20, num_drafts=(1, 2, 4, 8, 16), trials=500)
  rows = toy.run(config, workdir / 'toy', _SEED.value)
  print(f'\n{toy.run.as_text(rows)}')


def _text(workdir):
  """Every method on the shipped pair, and one text twice."""
  target, drafter = pretrained.shipped_pair()
  prompts, lengths = lc.encode_prompts(target.tokenizer, _PROMPTS)
  key = lc.gumbel.seed_key(_SEED.value)
  options = lc.GenerateOptions(max_new_tokens=96)
  rows = comparison.compare_methods(
    key, target, [drafter], prompts, lengths, options, methods=_METHODS
  )
  print(comparison.format_comparison(rows))
  tables.write_csv(workdir / 'decoding.csv', rows)
  about = {'dataset': 'the shipped pair', 'draft_temperatures': ''}
  block_efficiency.plot([about | row for row in rows], workdir / 'decoding.png')
  out = lc.generate(key, target, [drafter], prompts, lengths, options)
  print(f'\n{_PROMPTS[0]}{target.tokenizer.decode(out.tokens[0])}')


def _digits(workdir):
  """Half a digit for K decoders that each see a scrap of the other half."""
  config = _config('vae_digits')
  rows = images.run(config, workdir / 'digits', _SEED.value)
  print(images.run.as_text(rows))


def main(argv):
  """Runs the three parts and says how long each took."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}.')
  workdir = pathlib.Path(_WORKDIR.value)
  parts = (
    ('Coupling a list with one sample', lambda: _couplings(workdir)),
    ('Text: list verification beside plain sampling', lambda: _text(workdir)),
    ('Digits: one encoder, K decoders', lambda: _digits(workdir)),
  )
  for title, part in parts:
    print(f'\n== {title}\n')
    began = time.perf_counter()
    part()
    print(f'\n({time.perf_counter() - began:.0f} s)')
  print(f'\nPlots and tables: {workdir}')


if __name__ == '__main__':
  command.run(main)
