"""The Gaussian source of Rowan, Phan, Khisti (2025), arXiv 2506.05632, sec. 5.

A ~ N(0, 1); decoder k sees T_k = A + N(0, s). The test channel is
W | A = a ~ N(a, v), so the prior of W is N(0, 1 + v) and
W | T = t ~ N(t / (1 + s), 1 + v - 1 / (1 + s)). A decoder that holds (w, t)
answers with the MMSE estimate (s w + v t) / (s + v + s v).

The paper's "distortion (dB)" is the mean over trials of 10 log10 of the
squared error of the best decoder, not 10 log10 of its mean: `Trials` keeps
the squared errors so that both can be had.

Legend: N candidates, K decoders, R trials.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling import validation
from listcoupling.compression import codec, labels

LABELS = ('random', 'interval')


class Trials(NamedTuple):
  """What happened in R independent uses of the codec."""

  squared_error: jax.Array  # [R], of the best of the K decoders
  is_match: jax.Array  # [R] bool, some decoder found the encoder's candidate
  information_density: jax.Array  # [R, K] i(W; A | T_k) in bits


def _log_normal(x, mean, variance):
  return -0.5 * ((x - mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def log_prior(w, v):
  """Log density of the candidates, N(0, 1 + v)."""
  return _log_normal(w, 0.0, 1 + v)


def log_encoder(w, a, v):
  """Log density of the test channel W | A = a."""
  return _log_normal(w, a, v)


def log_decoder(w, t, s, v):
  """Log density of W | T = t."""
  return _log_normal(w, t / (1 + s), 1 + v - 1 / (1 + s))


def information_density(w, a, t, s, v):
  """i(w; a | t) = log2 p(w | a) / p(w | t), in bits."""
  return (log_encoder(w, a, v) - log_decoder(w, t, s, v)) / jnp.log(2.0)


def estimate(w, t, s, v):
  """E[A | W = w, T = t].

  Example:
    >>> round(estimate(1.0, 0.0, 0.5, 1e-9), 6)
    1.0
  """
  return (s * w + v * t) / (s + v + s * v)


def draw_source(key, num_decoders, s):
  """One source symbol [] and the side information of K decoders [K]."""
  source_key, side_key = jax.random.split(key)
  a = jax.random.normal(source_key)
  # By decoder, so that the first decoders of a larger K see the same.
  noise = jax.vmap(
    lambda k: jax.random.normal(jax.random.fold_in(side_key, k))
  )(jnp.arange(num_decoders))
  return a, a + jnp.sqrt(s) * noise


def _draw_labels(key, candidates, num_messages, width, kind):
  if kind == 'random':
    return labels.random_labels(key, candidates.shape[0], num_messages)
  offset = jax.random.uniform(key) * num_messages * width
  return labels.interval_labels(candidates, width, num_messages, offset)


def _trial(
  key, v, num_messages, width, s, *, num_decoders, num_candidates, scheme
):
  """One use of the codec; see `simulate`."""
  shared_race, kind = scheme
  source_key, prior_key, label_key, race_key = jax.random.split(key, 4)
  a, t = draw_source(source_key, num_decoders, s)  # [], [K]
  u = jnp.sqrt(1 + v) * jax.random.normal(prior_key, (num_candidates,))  # [N]
  tags = _draw_labels(label_key, u, num_messages, width, kind)  # [N]
  options = dict(num_decoders=num_decoders, shared_race=shared_race)
  prior = log_prior(u, v)
  index, message = codec.encode(
    race_key, log_encoder(u, a, v) - prior, tags, **options
  )
  found = jnp.stack(
    [
      codec.decode(
        race_key,
        log_decoder(u, t[k], s, v) - prior,
        tags,
        message,
        decoder=k,
        **options,
      )
      for k in range(num_decoders)
    ]
  )  # [K]
  error = (estimate(u[found], t, s, v) - a) ** 2  # [K]
  return Trials(
    jnp.min(error),
    jnp.any((found == index) & (index >= 0)),
    information_density(u[index], a, t, s, v),
  )


def simulate(
  key: jax.Array,
  v,
  num_messages,
  *,
  num_trials: int,
  num_decoders: int,
  num_candidates: int = 2**15,
  side_variance=0.5,
  shared_race: bool = False,
  label_kind: str = 'random',
  width=1.0,
) -> Trials:
  """R independent trials of the codec on the Gaussian source.

  Trial r depends on (key, r): two settings run with one key use common random
  numbers. Trials run one after the other, so that memory is O(N K).

  Args:
    key: typed key.
    v: [] variance of the test channel; traced.
    num_messages: [] integer L; traced.
    num_trials: R.
    num_decoders: K.
    num_candidates: N.
    side_variance: [] s; traced.
    shared_race: the baseline of the paper instead of K races.
    label_kind: "random" (paper) or "interval".
    width: [] length of the intervals; traced.

  Returns:
    `Trials` of R.

  Raises:
    ValueError: for a `label_kind` that is not known, variances or a width that
      are not positive, or L, R, K or N below 1.

  Example:
    >>> out = simulate(jax.random.key(0), .05, 8, num_trials=10,
    ...                num_decoders=2, num_candidates=64)
    >>> out.squared_error.shape
    (10,)
  """
  if label_kind not in LABELS:
    raise ValueError(f'label_kind must be one of {LABELS}, got {label_kind!r}.')
  validation.check_positive(v=v, side_variance=side_variance, width=width)
  for name, value in (
    ('num_messages', num_messages), ('num_trials', num_trials),
    ('num_decoders', num_decoders), ('num_candidates', num_candidates),
  ):  # fmt: skip
    if validation.is_concrete(value) and not value >= 1:
      raise ValueError(f'{name} must be at least 1, got {value}.')
  return _simulate(
    key, v, num_messages, side_variance, width,
    num_trials=num_trials, num_decoders=num_decoders,
    num_candidates=num_candidates, scheme=(shared_race, label_kind),
  )  # fmt: skip


@functools.partial(
  jax.jit,
  static_argnames=('num_trials', 'num_decoders', 'num_candidates', 'scheme'),
)
def _simulate(
  key, v, num_messages, side_variance, width, *,
  num_trials, num_decoders, num_candidates, scheme,
):  # fmt: skip
  one = functools.partial(
    _trial,
    num_decoders=num_decoders,
    num_candidates=num_candidates,
    scheme=scheme,
  )
  return jax.lax.map(
    lambda r: one(
      jax.random.fold_in(key, r), v, num_messages, width, side_variance
    ),
    jnp.arange(num_trials),
  )


@functools.partial(jax.jit, static_argnames=('num_trials', 'num_decoders'))
def simulate_no_message(
  key: jax.Array, *, num_trials: int, num_decoders: int, side_variance=0.5
) -> jax.Array:
  """Squared error [R] of the best decoder that answers E[A | T_k].

  Sources and side information are those of `simulate` with the same key.
  """

  def one(r):
    source_key = jax.random.split(jax.random.fold_in(key, r), 4)[0]
    a, t = draw_source(source_key, num_decoders, side_variance)
    return jnp.min((t / (1 + side_variance) - a) ** 2)

  return jax.vmap(one)(jnp.arange(num_trials))
