"""The smallest and oddest shapes: V < K, L = 1, prompts of one token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding.generate import generate
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from tests import fakes

VOCAB = 3
TARGET, (DRAFTER,) = fakes.random_pair(VOCAB, 1.0, 1)


def in_bfloat16(model):
  """The same model with bfloat16 logits."""
  return model._replace(apply=functools.partial(_rounded, model.apply))


def _rounded(apply, *args):
  logits, cache = apply(*args)
  return logits.astype(jnp.bfloat16), cache


TARGET_16 = in_bfloat16(TARGET)
DRAFTER_16 = DRAFTER._replace(apply=TARGET_16.apply)


def write(method, target=TARGET_16, drafter=DRAFTER_16, **changes):
  width = 1 if method in ('single', 'block') else 5
  options = GenerateOptions(
    method, num_drafts=width, draft_length=1, max_new_tokens=6, **changes
  )
  return generate(
    jax.random.key(0), target, [drafter], [[2], [0]], [1, 1], options
  )


@pytest.mark.parametrize('method', METHODS)
def test_every_method_survives_the_smallest_shapes(method):
  out = write(method)
  assert ((out.tokens >= 0) & (out.tokens < VOCAB)).all()
  assert (out.lengths == 6).all()
  if method in ('gumbel_tree', 'gumbel_chains'):
    np.testing.assert_array_equal(out.tokens, write('autoregressive').tokens)
  if method == 'gumbel_tree':  # K >= V: every token is drafted
    assert (out.metrics.accepted_per_position[:, 0] == 3).all()
    assert (out.metrics.invalid_drafts == 2 * 3).all()


def test_a_drafter_with_more_tokens_than_the_target():
  """Its own tokens are impossible for the target, and never written."""
  wide = fakes.random_pair(VOCAB + 2, 1.0, 1)[1][0]
  reference = write('autoregressive', target=TARGET)
  out = write('gumbel_chains', target=TARGET, drafter=wide)
  np.testing.assert_array_equal(out.tokens, reference.tokens)
  out = write('specinfer', target=TARGET, drafter=wide)
  assert (out.tokens < VOCAB).all()


def test_double_precision_elsewhere_changes_nothing():
  reference = write('gumbel_tree')
  with jax.enable_x64(True):
    np.testing.assert_array_equal(write('gumbel_tree').tokens, reference.tokens)
    noise = gumbel.exponential(jax.random.key(0), 5)
  np.testing.assert_array_equal(noise, gumbel.exponential(jax.random.key(0), 5))
