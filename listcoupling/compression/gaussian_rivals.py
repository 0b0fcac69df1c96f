"""What stands beside the codec on the Gaussian source, and its limits.

None of it is in Rowan, Phan, Khisti (2025), arXiv 2506.05632, but for the
limit of Wyner and Ziv (1976). A ~ N(0, 1), T_k = A + N(0, s), one message out
of L to K decoders, the best of which counts.

*   `modulo_quantiser`: the message is the cell of a dithered uniform
    quantiser modulo L; each decoder takes the cell that is most probable
    given T_k and answers with its conditional mean. No candidates, no races.
*   `seed_aware`: the paper's encoder and iid labels. Given the seed the
    encoder is a function a -> candidate whose level sets are intervals; a
    decoder rebuilds them on a grid and ranks those that carry the message by
    their probability given T_k. Decoder k takes the k-th and answers with its
    conditional mean.

Legend: B trials, K decoders, G cells of the grid.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation
from listcoupling.compression import arrival_codec, arrivals

_CELLS, _REACH = 1024, 4.25  # the grid covers [-_REACH, _REACH]
_ARRIVALS = 1 << 12


def wyner_ziv_mse(num_messages, side_variance=0.5):
  """Least MSE of one decoder at log2 L bits, in the limit of long blocks.

  s / (1 + s) / L^2: at s = 1/2, -4.77 - 6.02 R dB.

  Example:
    >>> float(wyner_ziv_mse(1, 1.0))
    0.5
  """
  return (
    side_variance / (1 + side_variance) / np.square(num_messages, dtype=float)
  )


def list_mse_limit(num_messages, num_decoders, side_variance=0.5):
  """MSE of the best of K decoders is at least (L K)^-2 / (1 + K / s).

  A genie tells which decoder is best: log2(L K) bits about A, whose variance
  given all T_k is 1 / (1 + K / s).

  Example:
    >>> round(float(list_mse_limit(2, 1)), 4)
    0.0833
  """
  known = 1 / (1 + num_decoders / side_variance)
  return known / np.square(num_messages * num_decoders, dtype=float)


def _truncated_mean(mean, deviation, low, high):
  """Mean of N(mean, deviation^2) within [low, high]."""
  alpha, beta = (low - mean) / deviation, (high - mean) / deviation
  # Far out in a tail the masses vanish: there the near end of the cell it is.
  flip = alpha > 0
  alpha, beta = jnp.where(flip, -beta, alpha), jnp.where(flip, -alpha, beta)
  cdf, pdf = jax.scipy.stats.norm.cdf, jax.scipy.stats.norm.pdf
  mass = cdf(beta) - cdf(alpha)
  shift = (pdf(alpha) - pdf(beta)) / jnp.maximum(mass, 1e-30)
  shift = jnp.where(mass > 1e-12, shift, beta)
  shift = jnp.clip(shift, alpha, beta)
  return mean + deviation * jnp.where(flip, -shift, shift)


def modulo_quantiser(
  key, trials, num_messages, width, side_variance=0.5, *, num_decoders
):
  """Squared error of the best of n = 1..K decoders.

  Args:
    key: typed key, e.g. that of `gaussian_grid.simulate`: then sources and
      side information are the same.
    trials: [B] integers.
    num_messages: [] L.
    width: [] length of a cell.
    side_variance: [] s.
    num_decoders: K.

  Returns:
    [B, K].

  Raises:
    ValueError: for a width that is not positive and finite.

  Example:
    >>> error = modulo_quantiser(jax.random.key(0), jnp.arange(9), 4, .5,
    ...                          num_decoders=2)
    >>> error.shape
    (9, 2)
  """
  validation.check_positive(width=width)
  return _modulo_quantiser(
    key, trials, num_messages, width, side_variance, num_decoders=num_decoders
  )


@functools.partial(jax.jit, static_argnames='num_decoders')
def _modulo_quantiser(
  key, trials, num_messages, width, side_variance, *, num_decoders
):
  s = side_variance
  (a, t, offset), _ = arrival_codec.draw_sources(key, trials, num_decoders, s)
  period = num_messages * width
  shift = offset * period
  cell = jnp.floor((a + shift) / width)  # [B]
  message = jnp.mod(cell, num_messages)
  mean, deviation = t / (1 + s), jnp.sqrt(s / (1 + s))  # [K, B]
  centre = (message + 0.5) * width - shift
  centre = centre + period * jnp.round((mean - centre) / period)
  answer = _truncated_mean(
    mean, deviation, centre - width / 2, centre + width / 2
  )
  error = (answer - a) ** 2
  return jax.lax.cummin(error, axis=0).T


def _rebuild(cost, normal, v, reach):
  """Winner [G] of the encoder at the grid's points, as a cell of the pool.

  Args:
    cost: [M] log t - log prior weight of the arrivals.
    normal: [M] candidates over sqrt(1 + v).
    v: [] variance of the test channel.
    reach: cells to look at on either side, static.

  Returns:
    winner [G] int, and arrival [G] int of each cell of the pool.
  """
  u = jnp.sqrt(1 + v) * normal
  step = 2 * _REACH / _CELLS
  grid = -_REACH + step * (jnp.arange(_CELLS) + 0.5)
  cell = jnp.clip((u + _REACH) / step, 0, _CELLS - 1).astype(jnp.int32)
  best = jnp.full(_CELLS, jnp.inf).at[cell].min(cost)  # one arrival per cell
  count = cost.shape[0]
  place = jnp.where(cost == best[cell], jnp.arange(count), count)
  arrival = jnp.full(_CELLS, count).at[cell].min(place)
  arrival = jnp.minimum(arrival, count - 1)
  position = jnp.where(best < jnp.inf, u[arrival], 0.0)
  pad = functools.partial(jnp.pad, pad_width=reach)
  best = pad(best, constant_values=jnp.inf)
  position = pad(position)

  def body(shift, carry):
    least, winner = carry
    take = functools.partial(
      jax.lax.dynamic_slice_in_dim, start_index=shift, slice_size=_CELLS
    )
    miss = take(position) - grid
    total = take(best) + miss * miss * (0.5 / v)
    here = jnp.arange(_CELLS) + shift - reach
    earlier = total < least
    return jnp.where(earlier, total, least), jnp.where(earlier, here, winner)

  start = jnp.full(_CELLS, jnp.inf), jnp.zeros(_CELLS, jnp.int32)
  _, winner = jax.lax.fori_loop(0, 2 * reach + 1, body, start)
  return winner, arrival


def _rank(winner, labels, message, mean, deviation, count):
  """Conditional means [count] of the most probable cells, in their order."""
  step = 2 * _REACH / _CELLS
  grid = -_REACH + step * (jnp.arange(_CELLS) + 0.5)
  density = jnp.exp(-0.5 * ((grid - mean) / deviation) ** 2)
  density = jnp.where(labels[winner] == message, density, 0.0)
  mass = jnp.zeros(_CELLS).at[winner].add(density)
  moment = jnp.zeros(_CELLS).at[winner].add(density * grid)
  top, cells = jax.lax.top_k(mass, count)
  return jnp.where(top > 0, moment[cells] / jnp.maximum(top, 1e-30), mean)


@functools.partial(
  jax.jit, static_argnames=('num_messages', 'num_decoders', 'num_candidates')
)
def seed_aware(
  key,
  trials,
  v,
  side_variance=0.5,
  *,
  num_messages: tuple[int, ...],
  num_decoders: int,
  num_candidates: int = 2**15,
):
  """Squared error of the best of n = 1..K decoders that know the seed.

  The encoder needs one race: it chooses alike with K. Its first 4096 arrivals
  are drawn; a decoder's grid has 1024 points, one candidate per cell, and
  reaches 4.25 standard deviations of A.

  Args:
    key: typed key.
    trials: [B] integers.
    v: [] variance of the test channel. Right from about 5e-4 (the grid's
      step) to .01 (its reach of 64 cells). Beyond, the decoders' map has
      errors and they answer worse than they could; nothing is refused.
    side_variance: [] s.
    num_messages: the L's, static.
    num_decoders: K, static.
    num_candidates: N, static.

  Returns:
    [B, len(num_messages), K].

  Example:
    >>> error = seed_aware(jax.random.key(0), jnp.arange(2), .01,
    ...                    num_messages=(2, 4), num_decoders=3)
    >>> error.shape
    (2, 2, 3)
  """
  s = side_variance
  source, keys = arrival_codec.draw_sources(key, trials, num_decoders, s)
  drawn = arrivals.draw(
    keys, num_races=1, num_arrivals=_ARRIVALS, num_candidates=num_candidates
  )
  deviation = jnp.sqrt(s / (1 + s))
  reach = 64  # .53: at least five standard deviations of every v up to .01

  def one(x):
    a, t, cost, normal, tag = x
    cost = cost - 0.5 * normal**2
    winner, arrival = _rebuild(cost, normal, v, reach)
    u = jnp.sqrt(1 + v) * normal
    sent = jnp.argmin(cost + (u - a) ** 2 * (0.5 / v))
    errors = []
    for count in num_messages:
      labels = jnp.floor(tag[arrival] * count)
      message = jnp.floor(tag[sent] * count)
      answers = [
        _rank(winner, labels, message, t[k] / (1 + s), deviation, k + 1)[k]
        for k in range(num_decoders)
      ]
      errors.append(jax.lax.cummin((jnp.stack(answers) - a) ** 2))
    return jnp.stack(errors)

  lanes = (source.value, source.side.T, *(x[0].T for x in drawn[:3]))
  return jax.lax.map(one, lanes)
