"""The codec on the Gaussian source by the first arrivals of its races.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: encoder and decoders
as in `gaussian`, on `arrivals` instead of all candidates. As no weight exceeds
its supremum q*, a winner with t / q <= t_M / q*, t_M the last arrival drawn,
is certain: what was not drawn changes nothing. Costs are logarithms,
log t - log q.

Legend: B lanes (trials), K decoders, M arrivals, n = 1..K decoders in use.
Lanes come last, where the machine's vectors are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling.compression import gaussian
from listcoupling.compression.arrivals import BLOCK, Arrivals


class Setting(NamedTuple):
  """One setting per lane, or one for all lanes (1 instead of B).

  Attributes:
    test_variance: [K, B] v when n = 1..K decoders are in use.
    num_messages: [B] L.
    period: [K, B] L times the interval width, of interval labels.
    is_interval: [B] bool, interval labels instead of iid ones.
  """

  test_variance: jax.Array
  num_messages: jax.Array
  period: jax.Array
  is_interval: jax.Array


class Source(NamedTuple):
  """B sources with what belongs to them."""

  value: jax.Array  # [B] a
  side: jax.Array  # [K, B] t
  offset: jax.Array  # [B] dither of interval labels, in periods


class Outcome(NamedTuple):
  """What n = 1..K decoders made of B sources."""

  squared_error: jax.Array  # [K, B] of the best of the first n decoders
  is_match: jax.Array  # [K, B] bool, one of them found the encoder's candidate
  is_certain: jax.Array  # [K, B] bool, arrivals not drawn change nothing
  information_density: jax.Array  # [K, K, B] i(W; A | T_k) in bits by (n, k)


def draw_sources(key, trials, num_decoders, side_variance):
  """`Source` of the trials [B] and the keys [B] of their races.

  Sources and side information are those of `gaussian.simulate`.
  """

  def one(trial):
    keys = jax.random.split(jax.random.fold_in(key, trial), 4)
    source = gaussian.draw_source(keys[0], num_decoders, side_variance)
    return *source, jax.random.uniform(keys[2]), keys[3]

  a, t, offset, race_keys = jax.vmap(one)(trials)
  return Source(a, t.T, offset), race_keys


def _first(cost):
  """Least cost [B], as ordered integers, and its place: [..., B] -> [B] both.

  Positive floats order like their bits; XLA vectorises the integer minimum.
  """
  flat = cost.reshape(-1, cost.shape[-1])
  order = jax.lax.bitcast_convert_type(flat, jnp.int32)
  best = jnp.min(order, axis=0)
  iota = jax.lax.broadcasted_iota(jnp.int32, flat.shape, 0)
  place = jnp.min(jnp.where(order == best, iota, flat.shape[0]), axis=0)
  return best, place


def _label(u, tag, offset, period, setting):
  """[..., B] float labels 0..L-1."""
  place = jnp.where(setting.is_interval, u / period + offset, tag)
  return jnp.floor((place - jnp.floor(place)) * setting.num_messages)


def _block(x, i):
  return jax.lax.dynamic_slice_in_dim(x, i * BLOCK, BLOCK, axis=1)


def _search(costs, num_blocks, drawn):
  """Least cost over the first blocks of all races, for several costs.

  Args:
    costs: (log_time, normal, tag) blocks [K, BLOCK, B] -> list of [k, BLOCK, B]
      for the first k races, or (first race, [1, BLOCK, B]).
    num_blocks: [] traced.
    drawn: `Arrivals`.

  Returns:
    cost [C, B] and place [C, B] in the [K M, B] arrivals.
  """
  parts = drawn[:3]
  length, lanes = drawn.log_time.shape[1:]

  def body(i, carry):
    found = []
    for first, cost in costs(*(_block(x, i) for x in parts)):
      best, place = _first(cost)
      race = first + place // BLOCK
      found.append((best, race * length + i * BLOCK + place % BLOCK))
    best, place = (jnp.stack(x) for x in zip(*found))
    earlier = best < carry[0]
    return (
      jnp.where(earlier, best, carry[0]),
      jnp.where(earlier, place, carry[1]),
    )

  none = jnp.full((1, lanes), jnp.inf)
  shape = jax.eval_shape(lambda: costs(*(_block(x, 0) for x in parts)))
  none = jnp.broadcast_to(none, (len(shape), lanes))
  start = (
    jax.lax.bitcast_convert_type(none, jnp.int32),
    jnp.zeros_like(none, jnp.int32),
  )
  best, place = jax.lax.fori_loop(0, num_blocks, body, start)
  return jax.lax.bitcast_convert_type(best, jnp.float32), place


def _take(x, place):
  """Entries [C, B] of arrivals [K, M, B]."""
  return jnp.take_along_axis(x.reshape(-1, x.shape[-1]), place, axis=0)


def _encode(drawn, a, setting, num_blocks):
  """Cost and place [K, B] of the encoder's choice for n = 1..K races."""
  count = drawn.log_time.shape[0]
  v = setting.test_variance

  def costs(log_time, normal, _):
    found = []
    for n in range(1, count + 1):
      z = normal[:n]
      miss = jnp.sqrt(1 + v[n - 1]) * z - a
      quadratic = miss * miss * (0.5 / v[n - 1]) - 0.5 * z * z
      found.append((0, log_time[:n] + quadratic))
    return found

  return _search(costs, num_blocks, drawn)


def _decode(drawn, t, message, offset, setting, s, num_blocks):
  """Cost and place [K (K + 1) / 2, B] of decoder k of n, by (n, k)."""
  count = drawn.log_time.shape[0]

  def costs(log_time, normal, tag):
    found = []
    for n in range(1, count + 1):
      v, period = setting.test_variance[n - 1], setting.period[n - 1]
      precision = 0.5 / (1 + v - 1 / (1 + s))
      for k in range(n):
        z = normal[k : k + 1]
        u = jnp.sqrt(1 + v) * z
        miss = u - t[k] / (1 + s)
        cost = log_time[k : k + 1] + miss * miss * precision - 0.5 * z * z
        label = _label(u, tag[k : k + 1], offset, period, setting)
        found.append((k, jnp.where(label == message[n - 1], cost, jnp.inf)))
    return found

  return _search(costs, num_blocks, drawn)


def run(
  drawn: Arrivals, source: Source, setting: Setting, s, blocks
) -> Outcome:
  """Sends B sources at one setting each, to n = 1..K decoders.

  Args:
    drawn: of B lanes.
    source: of B lanes.
    setting: per lane.
    s: [] variance of the side information.
    blocks: ([], []) blocks of arrivals to look at, of encoder and decoders.

  Returns:
    `Outcome`.
  """
  a, t, offset = source
  count = t.shape[0]
  best, place = _encode(drawn, a, setting, blocks[0])  # [K, B]
  sent = Arrivals(*(_take(x, place) for x in drawn))
  v = setting.test_variance
  w = jnp.sqrt(1 + v) * sent.normal  # [K, B]
  message = _label(w, sent.tag, offset, setting.period, setting)
  found_cost, found_place = _decode(
    drawn, t, message, offset, setting, s, blocks[1]
  )
  found = Arrivals(*(_take(x, found_place) for x in drawn))
  # No weight exceeds these: sup q = e^(a^2 / 2), sup p = e^(t^2 / 2 (1 + s)).
  last = [drawn.log_time[:, b * BLOCK - 1] for b in blocks]  # [K, B]
  encoder_horizon = last[0] - 0.5 * a * a
  decoder_horizon = last[1] - 0.5 * t * t / (1 + s)
  outcomes, row = [], 0
  for n in range(1, count + 1):
    rows = slice(row, row + n)
    row += n
    answer = gaussian.estimate(
      jnp.sqrt(1 + v[n - 1]) * found.normal[rows], t[:n], s, v[n - 1]
    )
    density = gaussian.information_density(w[n - 1], a, t, s, v[n - 1])
    certain = (best[n - 1] <= encoder_horizon[:n]).all(0)
    certain &= (found_cost[rows] <= decoder_horizon[:n]).all(0)
    outcomes.append(
      Outcome(
        jnp.min((answer - a) ** 2, 0),
        (found.index[rows] == sent.index[n - 1]).any(0),
        certain,
        density,
      )
    )
  return jax.tree.map(lambda *x: jnp.stack(x), *outcomes)
