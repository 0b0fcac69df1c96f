"""A queue against fixed batches, on tables."""

import numpy as np

from listcoupling import gumbel
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import serving
from tests import fakes


def test_a_queue_waits_less_for_the_same_texts():
  target, (drafter,) = fakes.random_pair(7, 0.7, 5)
  options = GenerateOptions(
    num_drafts=2, draft_length=2, max_new_tokens=30, stop_tokens=(3,)
  )
  batches, queue = serving.serving_cases(
    *(gumbel.seed_key(0), target, drafter, np.ones((2, 4), int), [4, 2]),
    requests=24,
    batch_size=4,
    options=options,
    rounds=1,
  )
  fixed, found = batches.measure(), queue.measure()
  assert fixed['tokens'] == found['tokens'] > fixed['longest'] > 0
  assert fixed['ratio_to_batches'] == 1
  assert found['waiting'] < fixed['waiting'] - 0.1
