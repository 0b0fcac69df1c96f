"""Many texts of a table pair, and the p-value of their joint law."""

import jax
import numpy as np

from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, statistics
from tests.decoding import exact

ROWS = 24_000
VOCAB = 5
PROMPTS = ((2,), (0, 3, 1))  # of different length, alternating over the rows
LENGTH = 3  # tokens whose joint law is checked


def texts(options, *, num_drafters=2, rows=ROWS):
  """First tokens [rows, LENGTH] and the target."""
  target, drafters = fakes.random_pair(VOCAB, 1.5, 3, num_drafters)
  prompts = np.zeros((rows, 3), int)
  prompts[::2, :1], prompts[1::2] = PROMPTS
  lengths = np.where(np.arange(rows) % 2, 3, 1)
  if options.method == 'autoregressive':
    drafters = []
  out = generate(jax.random.key(0), target, drafters, prompts, lengths, options)
  return out.tokens[:, :LENGTH], target


def p_values(options, **kwargs):
  """Chi-square p-values of the joint law, one per prompt."""
  tokens, target = texts(options, **kwargs)
  return [
    statistics.law_p_value(
      exact.encode(tokens[row::2], VOCAB),
      exact.joint_law(target, prompt, options, LENGTH),
    )
    for row, prompt in enumerate(PROMPTS)
  ]


def plain(method, **changes):
  """Diverse drafters wherever the method allows them."""
  diverse = method not in ('spectr', 'single', 'block')
  single = method in ('single', 'block')
  settings = dict(
    method=method,
    num_drafts=1 if single else 3,
    draft_length=2,
    max_new_tokens=4,
    draft_temperatures=(0.7, 1.4) if diverse else (0.7,),
    pad_token=VOCAB,
  )
  return GenerateOptions(**(settings | changes))


def drafters_of(method):
  return 1 if method in ('spectr', 'single', 'block') else 2
