"""A pair of table models with a tokenizer and prompts of letters.

All tests run batches of three rows, prompts of one bucket, K = L = 2 and the
same filters, so that they share compiled programs.
"""

import functools
import json

import numpy as np
from tokenizers import decoders

from configs import decoding_iid
from tests import fakes

LETTERS = 'abcdefghijkl'


def letter_tokenizer():
  """One token per letter; line ends read as 'a'."""
  tokenizer = fakes.word_tokenizer(LETTERS, r'.|\n')
  tokenizer.decoder = decoders.Fuse()
  return tokenizer


@functools.cache
def pair():
  target, (drafter,) = fakes.random_pair(len(LETTERS), noise=0.7, seed=1)
  tokenizer = letter_tokenizer()
  return tuple(
    model._replace(tokenizer=tokenizer) for model in (target, drafter)
  )


def write_prompts(folder, count=5):
  """GSM8K and MBPP files of short words."""
  generator = np.random.default_rng(0)
  words = [
    ''.join(generator.choice(list(LETTERS), size))
    for size in generator.integers(2, 9, count)
  ]
  for name, lines in (
    ('gsm8k/test.jsonl', [{'question': word} for word in words]),
    (
      'mbpp/mbpp.jsonl',
      [{'task_id': 11 + n, 'text': word} for n, word in enumerate(words)],
    ),
  ):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / name).write_text(text)
  return folder


def config_of(folder, config=None, **changes):
  """A small protocol on the prompts of a folder."""
  config = config or decoding_iid.get_config()
  small = dict(
    prompts=str(folder),
    datasets=('gsm8k', 'mbpp'),
    num_prompts=5,
    batch_size=3,
    seeds=2,
    max_new_tokens=12,
    draft_length=2,
    top_k=8,
  )
  with config.ignore_type():
    config.update({**small, **changes})
  return config
