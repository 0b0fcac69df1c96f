import jax
import numpy as np
import pytest

from listcoupling.experiments.benchmarks.speed import SIZES
from listcoupling.models import transformer
from listcoupling.models.random_pair import overlap, random_pair
from tests import statistics


def test_the_pair_has_the_size_and_agrees():
  (target, drafter), (_, other) = (
    random_pair(jax.random.key(i), **SIZES['1M']) for i in (0, 1)
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(target.params))
  assert f'{count:.0e}' == '1e+06' and drafter.config.num_layers == 1
  tokens = np.random.default_rng(0).integers(0, 1024, (2, 24))
  same = 1 - statistics.rounding(1024)  # terms of the sum
  assert overlap(target, target, tokens) > same
  shared = overlap(target, drafter, tokens)
  assert overlap(target, other, tokens) < shared < same  # another pair's
  logits = jax.jit(transformer.causal_logits, static_argnums=0)
  scores = logits(target.config, target.params, tokens)
  statistics.assert_mean(np.var(scores, axis=-1), 2.5**2)  # sharp enough
  q = jax.nn.softmax(scores)
  # No echo of the last token: the law depends on the text.
  echo = np.take_along_axis(q, tokens[..., None], -1)
  statistics.assert_mean(echo, 1 / 1024)


@pytest.mark.parametrize('layers', [0, 5])
def test_a_drafter_needs_layers_of_the_target(layers):
  with pytest.raises(ValueError, match=rf'in \[1, 4\], got {layers}'):
    random_pair(jax.random.key(0), **SIZES['1M'] | {'draft_layers': layers})
