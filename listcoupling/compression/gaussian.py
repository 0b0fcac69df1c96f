"""The Gaussian source of Rowan, Phan, Khisti (2025), arXiv 2506.05632, sec. 5.

A ~ N(0, 1); decoder k sees T_k = A + N(0, s_k). The test channel is
W | A = a ~ N(a, v), so the prior of W is N(0, 1 + v) and
W | T = t ~ N(t / (1 + s), 1 + v - 1 / (1 + s)). A decoder that holds (w, t)
answers with the MMSE estimate (s w + v t) / (s + v + s v). One without side
information has s = inf: its law of W is the prior, its estimate w / (1 + v).

The paper's "distortion (dB)" is the mean over trials of 10 log10 of the
squared error of the best decoder, not 10 log10 of its mean: `Trials` keeps
the squared error of every decoder so that both can be had, and those of the
mean and the worst decoder.

Legend: N candidates, K decoders, R trials.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import gumbel, validation
from listcoupling.compression import codec, lattices
from listcoupling.gumbel import Domain, domain_key

__all__ = [
  'LABELS',
  'Trials',
  'check_side_variance',
  'draw_source',
  'estimate',
  'information_density',
  'log_decoder',
  'log_encoder',
  'log_prior',
  'posterior_mean',
  'posterior_variance',
  'simulate',
  'simulate_lattice',
  'simulate_no_message',
  'trial_key',
]


def __dir__():
  return __all__


LABELS = ('random', 'interval')


class Trials(NamedTuple):
  """Results of R independent uses of the codec."""

  squared_error: jax.Array  # [R, K]
  is_match: jax.Array  # [R] bool, some decoder has the encoder's candidate
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
  """Log density of W | T = t; that of the prior for s = inf."""
  return _log_normal(w, posterior_mean(t, s), 1 + v - 1 / (1 + s))


def information_density(w, a, t, s, v):
  """i(w; a | t) = log2 p(w | a) / p(w | t), in bits."""
  return (log_encoder(w, a, v) - log_decoder(w, t, s, v)) / math.log(2)


def posterior_mean(t, s, source_variance=1.0):
  """E[A | T = t]; 0 for s = inf, whatever t.

  Example:
    >>> float(posterior_mean(3.0, 0.5)), float(posterior_mean(3.0, 1.0, 2.0))
    (2.0, 2.0)
  """
  s = jnp.asarray(s, jnp.float32)
  return jnp.where(jnp.isinf(s), 0.0, t / (1 + s / source_variance))


def posterior_variance(s):
  """Variance of A given T; 1 for s = inf."""
  return 1 - 1 / (1 + jnp.asarray(s, jnp.float32))


def estimate(w, t, s, v):
  """E[A | W = w, T = t].

  Example:
    >>> round(float(estimate(1.0, 0.0, 0.5, 1e-9)), 6)
    1.0
  """
  variance = posterior_variance(s)
  return (variance * w + v * posterior_mean(t, s)) / (variance + v)


def draw_source(key, num_decoders, side_variance):
  """One source symbol [] and the side information of K decoders [K].

  Args:
    key: typed key; its domains of source and side information are used.
    num_decoders: K. The first decoders of a larger K see the same.
    side_variance: [] or [K] s; inf for no side information, seen as 0.
  """
  s = jnp.broadcast_to(jnp.asarray(side_variance, jnp.float32), (num_decoders,))
  a = jax.random.normal(domain_key(key, Domain.SOURCE), (), jnp.float32)
  noise = jax.vmap(
    lambda k: jax.random.normal(
      domain_key(key, Domain.SIDE_INFORMATION, k), (), jnp.float32
    )
  )(jnp.arange(num_decoders, dtype=jnp.int32))
  return a, jnp.where(jnp.isinf(s), 0.0, a + jnp.sqrt(s) * noise)


def trial_key(key, trial):
  """Key of one trial: its domains are source, codebook, labels, races."""
  return domain_key(key, Domain.TRIALS, trial)


def _draw_labels(key, candidates, num_messages, width, kind, num_groups):
  if kind == 'random':
    return codec.random_labels(
      domain_key(key, Domain.LABELS), candidates.shape[0], num_messages,
      num_groups=num_groups,
    )  # fmt: skip
  count = (num_messages * num_groups).astype(jnp.float32)
  dither = gumbel.uniform(domain_key(key, Domain.DITHER), 1)[0]
  return codec.interval_labels(
    candidates, width, num_messages, dither * count * width,
    num_groups=num_groups,
  )  # fmt: skip


def _trial(
  key, v, num_messages, width, s, *,
  num_candidates, num_groups, label_kind, shared_race,
):  # fmt: skip
  """One use of the codec; see `simulate`."""
  num_decoders = s.size
  a, t = draw_source(key, num_decoders, s)  # [], [K]
  u = jnp.sqrt(1 + v) * jax.random.normal(
    domain_key(key, Domain.CODEBOOK), (num_candidates,), jnp.float32
  )  # [N]
  named = _draw_labels(key, u, num_messages, width, label_kind, num_groups)
  race_key = domain_key(key, Domain.RACES)
  options = dict(
    num_decoders=num_decoders, shared_race=shared_race, num_groups=num_groups
  )
  prior = log_prior(u, v)
  index, message = codec.encode(
    race_key, log_encoder(u, a, v) - prior, named, **options
  )
  answer = jnp.stack(
    [
      codec.decode(
        race_key, log_decoder(u, t[k], s[k], v) - prior, named, message,
        decoder=k, **options,
      )
      for k in range(num_decoders)
    ]
  )  # fmt: skip
  return Trials(
    (estimate(u[answer], t, s, v) - a) ** 2,
    jnp.any((answer == index) & (index >= 0)),
    information_density(u[index], a, t, s, v),
  )


def check_side_variance(side_variance, num_decoders) -> np.ndarray:
  """[K] float32 from [] or [K]; ValueError unless positive (inf: none)."""
  s = np.float32(validation.as_numbers(side_variance, 'side_variance'))
  if s.shape not in ((), (num_decoders,)) or not np.all(s > 0):
    raise ValueError(
      'side_variance must be positive, one number or one for each of the '
      f'{num_decoders} decoders (inf: no side information), got '
      f'{validation.shown(side_variance)}.'
    )
  return np.broadcast_to(s, (num_decoders,))


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
  num_groups: int = 1,
  label_kind: str = 'random',
  width=1.0,
) -> Trials:
  """R independent trials of the codec on the Gaussian source.

  Trial r depends on (key, r): two settings run with one key use common random
  numbers. Trials run one after the other, so that memory is O(N K).

  Args:
    key: typed key.
    v: [] variance of the test channel.
    num_messages: [] integer L; traced.
    num_trials: R.
    num_decoders: K.
    num_candidates: N.
    side_variance: [] or [K] s; inf for a decoder without side information.
    shared_race: the baseline of the paper instead of K races.
    num_groups: G, which divides K; see `codec.encode`.
    label_kind: "random" (paper) or "interval".
    width: [] length of the intervals; a label returns every L G width.

  Returns:
    `Trials` of R.

  Raises:
    ValueError: for a `label_kind` that is not known, variances or a width that
      are not positive, G that does not divide K, or L, R, K or N below 1.

  Example:
    >>> out = simulate(jax.random.key(0), .05, 8, num_trials=10,
    ...                num_decoders=2, num_candidates=64)
    >>> out.squared_error.shape
    (10, 2)
  """
  if label_kind not in LABELS:
    raise ValueError(f'label_kind must be one of {LABELS}, got {label_kind!r}.')
  validation.check_positive(v=v, width=width)
  for name, value in (
    ('num_messages', num_messages), ('num_trials', num_trials),
    ('num_decoders', num_decoders), ('num_candidates', num_candidates),
  ):  # fmt: skip
    validation.check_scalar(value, name, minimum=1)
  codec.check_groups(num_groups, num_decoders)
  return _simulate(
    key,
    jnp.asarray(v, jnp.float32),
    jnp.asarray(num_messages, jnp.int32),
    jnp.asarray(width, jnp.float32),
    check_side_variance(side_variance, num_decoders),
    num_trials=num_trials,
    num_candidates=num_candidates,
    num_groups=num_groups,
    label_kind=label_kind,
    shared_race=shared_race,
  )


@functools.partial(
  jax.jit,
  static_argnames=(
    'num_trials', 'num_candidates', 'num_groups', 'label_kind', 'shared_race'
  ),
)  # fmt: skip
def _simulate(key, v, num_messages, width, s, *, num_trials, **options):
  return jax.lax.map(
    lambda r: _trial(trial_key(key, r), v, num_messages, width, s, **options),
    jnp.arange(num_trials, dtype=jnp.int32),
  )


def simulate_no_message(
  key: jax.Array, *, num_trials: int, num_decoders: int, side_variance=0.5
) -> jax.Array:
  """Squared errors [R, K] of decoders that answer E[A | T_k].

  Sources and side information are those of `simulate` with the same key.

  Example:
    >>> key = jax.random.key(0)
    >>> simulate_no_message(key, num_trials=4, num_decoders=2).shape
    (4, 2)
  """
  s = check_side_variance(side_variance, num_decoders)
  return _simulate_no_message(key, s, num_trials=num_trials)


@functools.partial(jax.jit, static_argnames='num_trials')
def _simulate_no_message(key, s, *, num_trials):
  def one(r):
    a, t = draw_source(trial_key(key, r), s.size, s)
    return (posterior_mean(t, s) - a) ** 2

  return jax.vmap(one)(jnp.arange(num_trials, dtype=jnp.int32))


def simulate_lattice(
  key: jax.Array,
  trials,
  code: lattices.Code,
  period,
  *,
  num_decoders: int,
  side_variance=0.5,
  reach: int = 0,
  believed_variance=1.0,
  spread: tuple[float, float] = (1.0, 1.0),
) -> tuple[jax.Array, jax.Array]:
  """Squared errors of decoders whose codebook is a dithered lattice.

  For D = 1 sources and side information are those of `simulate` with the same
  key and trials; D dimensions take D trials each. All trials of a call run at
  once, and each R is compiled anew: give many in chunks of one size.

  Args:
    key: typed key.
    trials: [R] integers.
    code: of `lattices.make_code`; its G must divide K.
    period: [] see `lattices.encode`; traced.
    num_decoders: K.
    side_variance: [] or [K] s; inf for no side information.
    reach: see `lattices.reconstruct`.
    believed_variance: [] of the source, for a decoder that picks its codeword.
      With the true one, 1, the estimates of all decoders are drawn to 0 and
      miss together where A is large; the best of K fails only where all do,
      which weighs the prior like K observations. 2 serves K = 2..4.
    spread: factors of the deviations of source and noise: with factors above 1
      rare failures are seen in few trials (importance sampling).

  Returns:
    Errors [R, K], per dimension, and weights [R] of the trials, mean 1; 1
    without a spread.

  Raises:
    ValueError: for a period or variance that is not positive, or G that does
      not divide K.

  Example:
    >>> code = lattices.make_code('Z', 4, num_groups=2)
    >>> simulate_lattice(jax.random.key(0), jnp.arange(5), code, 3.,
    ...                  num_decoders=2)[0].shape
    (5, 2)
  """
  validation.check_positive(
    period=period, source_spread=spread[0], noise_spread=spread[1],
    believed_variance=believed_variance,
  )  # fmt: skip
  codec.check_groups(code.num_groups, num_decoders)
  s = check_side_variance(side_variance, num_decoders)
  run = _compiled_lattice(
    code.lattice, code.num_messages, code.num_groups, code.size, len(code.cell),
    reach,
  )  # fmt: skip
  return run(
    key, jnp.asarray(trials, jnp.int32), jnp.asarray(period, jnp.float32), s,
    jnp.asarray(believed_variance, jnp.float32),
    jnp.asarray(spread, jnp.float32),
  )  # fmt: skip


@functools.cache
def _compiled_lattice(lattice, num_messages, num_groups, size, points, reach):
  code = lattices.make_code(
    lattice, num_messages, num_groups=num_groups, size=size, num_points=points
  )

  def one(key, trial, period, s, believed, spread):
    parts = trial * size + jnp.arange(size, dtype=jnp.int32)
    a, t = jax.vmap(lambda r: draw_source(trial_key(key, r), s.size, s))(parts)
    a, t, weight = _spread_out(a, t, s, spread)
    mean = posterior_mean(t.T, s[:, None])  # [K, D]
    guess = posterior_mean(t.T, s[:, None], believed)
    dither_key = domain_key(trial_key(key, parts[0]), Domain.DITHER)
    offset = lattices.dither(dither_key, (), code)
    message = lattices.encode(a, offset, period, code)
    offset = jnp.broadcast_to(offset, mean.shape)
    codeword = lattices.decode(
      jnp.broadcast_to(message, s.shape), guess, offset, period, code,
      decoder=jnp.arange(s.size, dtype=jnp.int32),
    )  # fmt: skip
    answer = lattices.reconstruct(
      codeword, mean, posterior_variance(s), period, code, reach=reach
    )
    return jnp.mean((answer - a[None]) ** 2, -1), weight

  return jax.jit(jax.vmap(one, (None, 0, None, None, None, None)))


def _spread_out(a, t, s, spread):
  """Larger sources [D] and noise in t [D, K], and the weight [] of it."""
  noise = jnp.where(jnp.isinf(s)[None], 0.0, t - a[:, None])
  used = jnp.where(jnp.isinf(s), 0.0, 1.0)
  source = jnp.log(spread[0]) + 0.5 * (1 - spread[0] ** 2) * a**2  # [D]
  scaled = 0.5 * (1 - spread[1] ** 2) * noise**2 / s[None]
  log_weight = jnp.sum(source) + jnp.sum(
    used[None] * jnp.log(spread[1]) + scaled
  )
  a = spread[0] * a
  t = jnp.where(jnp.isinf(s)[None], 0.0, a[:, None] + spread[1] * noise)
  return a, t, jnp.exp(log_weight)
