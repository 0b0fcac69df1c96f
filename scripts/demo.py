"""The library in four minutes of CPU: couplings, text, digits.

  python scripts/demo.py --workdir runs/demo

Needs no network: the language models ship with the library and the digits
come with scikit-learn. Figures and tables go to the workdir.
"""

import listcoupling.early_exits  # noqa: F401

import importlib
import pathlib
import sys

from absl import flags

import listcoupling as lc
from listcoupling import command, tables
from listcoupling.decoding import comparison
from listcoupling.experiments import images, toy
from listcoupling.experiments.language import block_efficiency
from listcoupling.models import pretrained

sys.path.insert(0, str(command.root()))  # of configs

_WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'For plots and tables.')
_SEED = command.define_seed(0, 'Seed of everything.')

_PROMPTS = (
  'def main(argv):\n    ',
  'class Parser(object):\n    """',
  'The with statement is used to',
  'for name in sorted(names):\n    if ',
)
_FIGURES = """
  toy/toy.png                 acceptance against the number of drafts
  decoding.png                tokens per call of the target
  digits/rate_distortion.png  error against bits, by decoders and scheme
  digits/examples_*.png       four digits as each scheme sends them"""
_METHODS = ('autoregressive', 'single', 'gls', 'specinfer', 'gumbel_tree')


def _fill(table, name, workdir, **changes):
  """Fills the table of a config, and prints it."""
  config = importlib.import_module(f'configs.{name}').get_config()
  config.update(changes)
  print(table.as_text(table(config, workdir, _SEED.value)))


def _couplings(workdir):
  """One pair of laws, then acceptance against K on a few."""
  print(toy.coupling_table(_SEED.value), end='\n\n')
  few = dict(num_pairs=20, num_drafts=(1, 2, 4, 8, 16), trials=500)
  _fill(toy.run, 'toy', workdir / 'toy', **few)


def _text(workdir):
  """Every method on the shipped pair, and one text twice."""
  target, drafter = pretrained.shipped_pair()
  prompts = lc.encode_prompts(target.tokenizer, _PROMPTS)
  options = lc.GenerateOptions(max_new_tokens=96)
  call = lc.gumbel.seed_key(_SEED.value), target, [drafter], *prompts, options
  rows = comparison.compare_methods(*call, methods=_METHODS)
  print(comparison.format_comparison(rows))
  print('On a CPU a target as small as this one is faster alone.')
  tables.write_csv(workdir / 'decoding.csv', rows)
  about = {'dataset': 'the shipped pair', 'draft_temperatures': ''}
  block_efficiency.plot([about | row for row in rows], workdir / 'decoding.png')
  out = lc.generate(*call)
  print(f'\n{_PROMPTS[0]}{target.tokenizer.decode(out.tokens[0])}')


def main(_):
  """Runs the three parts."""
  workdir = pathlib.Path(_WORKDIR.value)
  print('== Coupling a list with one sample\n')
  _couplings(workdir)
  print('\n== Text: list verification beside plain sampling\n')
  _text(workdir)
  print('\n== Digits: one encoder, K decoders that each see a scrap of half\n')
  _fill(images.run, 'vae_digits', workdir / 'digits')
  print(f'\nFigures (PDF and tables beside them) in {workdir}:{_FIGURES}')


if __name__ == '__main__':
  command.run(main)
