import jax
import numpy as np
import pytest

from listcoupling.experiments.benchmarks.speed import SIZES
from listcoupling.models import transformer
from listcoupling.models.random_pair import overlap, random_pair


def test_the_pair_has_the_size_and_agrees():
  target, drafter = random_pair(jax.random.key(0), **SIZES['1M'])
  count = sum(leaf.size for leaf in jax.tree.leaves(target.params))
  assert 0.8e6 < count < 1.3e6 and drafter.config.num_layers == 1
  tokens = np.random.default_rng(0).integers(0, 1024, (2, 24))
  assert 0.6 < overlap(target, drafter, tokens) < 0.9
  assert overlap(target, target, tokens) > 1 - 1e-5
  logits = jax.jit(transformer.causal_logits, static_argnums=0)
  q = jax.nn.softmax(logits(target.config, target.params, tokens))
  # No echo of the last token: the law depends on the text.
  assert np.take_along_axis(q, tokens[..., None], -1).mean() < 0.1


@pytest.mark.parametrize('layers', [0, 5])
def test_a_drafter_needs_layers_of_the_target(layers):
  with pytest.raises(ValueError, match=rf'in \[1, 4\], got {layers}'):
    random_pair(jax.random.key(0), **SIZES['1M'] | {'draft_layers': layers})
