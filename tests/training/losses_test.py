"""Losses against plain numpy, and the windows they are taken on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling.models import transformer
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import losses
from tests import statistics
from tests.training import tiny_text

CONFIG = tiny_text.small_config('unused')
CONFIG.model.update(vocab_size=40)


def model(seed):
  """A model with laws far from uniform."""
  config = TransformerConfig(**CONFIG.model)
  params = transformer.init_params(jax.random.key(seed), config)
  params['embed'] = 1.5 * jax.random.normal(
    jax.random.key(seed + 9), params['embed'].shape
  )
  return config, params


def evaluate(share, student, windows, teacher=None):
  """`loss_and_metrics`, compiled: op by op it takes seconds."""
  function = functools.partial(
    losses.loss_and_metrics, share, windows=jnp.asarray(windows)
  )
  student_config, params = student
  if teacher is None:
    return jax.jit(lambda p: function((student_config, p)))(params)
  return jax.jit(
    lambda p, q: function((student_config, p), teacher=(teacher[0], q))
  )(params, teacher[1])


def log_laws(config, params, inputs):
  forward = jax.jit(transformer.causal_logits, static_argnums=0)
  logits = np.asarray(forward(config, params, inputs))
  shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_losses_are_the_sums_they_claim():
  student, teacher = model(0), model(1)
  windows = np.random.default_rng(0).integers(0, 40, (3, 9))
  log_p = log_laws(*student, windows[:, :-1])
  log_q = log_laws(*teacher, windows[:, :-1])
  cross_entropy = -np.mean(
    [log_p[b, s, windows[b, s + 1]] for b in range(3) for s in range(8)]
  )
  p, q = np.exp(log_p), np.exp(log_q)
  kl = np.mean(np.sum(q * (log_q - log_p), -1))
  overlap = np.mean(1 - 0.5 * np.abs(p - q).sum(-1))
  # Sums over 40 tokens and 24 places, of logarithms of law and normaliser.
  error = statistics.rounding(40 + 24, max(-log_p.min(), -log_q.min()))
  reverse = np.mean(np.sum(p * (log_p - log_q), -1))
  assert abs(kl - reverse) > error and 1 - overlap > error  # controls
  loss, metrics = evaluate(0.25, student, windows, teacher)
  assert metrics['cross_entropy'] == pytest.approx(
    cross_entropy, rel=0, abs=error
  )
  assert metrics['kl'] == pytest.approx(kl, rel=0, abs=error)
  most = statistics.rounding(40 + 24)  # the same sums, up to 1
  assert metrics['overlap'] == pytest.approx(overlap, rel=0, abs=most)
  assert loss == pytest.approx(
    0.25 * kl + 0.75 * cross_entropy, rel=0, abs=error
  )
  alone, metrics = evaluate(0.25, student, windows)
  assert alone == pytest.approx(cross_entropy, rel=0, abs=error)
  assert set(metrics) == {'cross_entropy'}


def test_a_model_has_no_distance_to_itself():
  windows = np.random.default_rng(0).integers(0, 40, (3, 9))
  _, metrics = evaluate(0.5, model(0), windows, model(0))
  error = statistics.rounding(40 + 24)  # tokens and places; sums up to 1
  assert metrics['overlap'] == pytest.approx(1, rel=0, abs=error)
  assert metrics['kl'] == pytest.approx(0, rel=0, abs=error)


def test_windows_depend_on_key_alone():
  tokens = jnp.arange(100)
  windows = losses.sample_windows(jax.random.key(3), tokens, 50, 9)
  assert windows.shape == (50, 9)
  assert (np.diff(windows, axis=1) == 1).all()
  assert windows.min() >= 0 and windows.max() <= 99
  again = losses.sample_windows(jax.random.key(3), tokens, 50, 9)
  np.testing.assert_array_equal(windows, again)
  assert len(set(windows[:, 0].tolist())) > 20


def test_even_windows_reach_both_ends():
  windows = losses.even_windows(np.arange(500), CONFIG)
  assert windows.shape == (2, 4, 17)
  assert windows[0, 0, 0] == 0 and windows[-1, -1, -1] == 499


def test_means_are_over_batches():
  means = losses.mean_metrics(lambda batch: {'m': batch}, [1.0, 2.0, 6.0])
  assert means == {'m': 3.0}
