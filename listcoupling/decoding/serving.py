"""More requests than rows: a slot that is done takes the next request.

Blocks run until some slots are done; the host refills them, so that none waits
for the slowest of a batch. A request's text depends on its own key and prompt
alone.

Legend: R requests, B slots, P padded prompt, M new tokens, T row capacity.
"""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from listcoupling import validation
from listcoupling.decoding import loop, placement, programs
from listcoupling.decoding.generate import (
  Call,
  Generation,
  count_row_blocks,
  gather,
  prepare,
  rows_bucket,
)
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.options import GenerateOptions

_SPAN = 8  # blocks between two looks at the rows, at most
_SHARE = 8  # slots per one that may wait for others before a look


def generate_many(
  key: jax.Array,
  target: LanguageModel,
  drafters: Sequence,
  prompts,
  prompt_lengths,
  options: GenerateOptions,
  *,
  batch_size: int,
  mesh: Mesh | None = None,
  on_done: Callable[[int, np.ndarray], None] | None = None,
) -> Generation:
  """Continues any number of prompts, `batch_size` rows at a time.

  Args:
    key: one typed key, folded by request, or [R] keys.
    target: as for `generate`.
    drafters: as for `generate`.
    prompts: [R, P] token ids, right-padded.
    prompt_lengths: [R], at least 1.
    options: see `GenerateOptions`.
    batch_size: slots, no more than requests; the next of `generate`'s buckets
      is what runs.
    mesh: as for `generate`.
    on_done: called with the number of a request and its tokens when it ends,
      in the order in which they end.

  Returns:
    `Generation` in the order of the requests; each as `generate` would write
    it with the same key. `tokens_per_second` counts the prompts' time, too, but
    no compilation; `occupancy` is the slots'.

  Raises:
    ValueError: as `generate`; for no slot, or fewer than 'data' has shards.

  Example:
    >>> import listcoupling as lc
    >>> target, drafter = lc.shipped_pair()
    >>> out = generate_many(jax.random.key(0), target, drafter,
    ...                     [[1], [2], [3]], [1, 1, 1],
    ...                     GenerateOptions(max_new_tokens=4), batch_size=2)
    >>> out.tokens.shape
    (3, 4)
  """
  with placement.agreement(mesh, target) as agree:
    validation.check_positive_int(batch_size, 'batch_size')
    if on_done is not None and not callable(on_done):
      raise ValueError(
        f'on_done must be callable or None, got {on_done!r:.80}.'
      )
    agree(batch_size=batch_size)
  with jax.enable_x64(False):
    queue = prepare(
      key, target, drafters, prompts, prompt_lengths, options, mesh
    )
    count = min(batch_size, queue.prompt_lengths.size)
    size = placement.rows_on(
      queue.mesh, count, rows_bucket(count), 'slots of batch_size'
    )
    return _serve(queue, size, on_done)


def _serve(queue: Call, size, on_done):
  began, compiling = time.perf_counter(), programs.seconds()
  slots = np.full(size, -1)  # the request of each slot
  waiting = list(range(queue.prompt_lengths.size))[::-1]
  done = {}  # of each request its tokens, their number and figures
  state = info = None
  row_blocks, before = 0, np.zeros(size, int)
  while waiting or (slots >= 0).any():
    fresh = np.zeros(size, bool)
    for slot in np.flatnonzero(slots < 0)[: len(waiting)]:
      slots[slot], fresh[slot] = waiting.pop(), True
    call = _call(queue, slots, fresh)
    if fresh.any():
      state, info = _refill(call, fresh, state, info)
    state, info = _span(call, state, info)
    calls = placement.fetch(info.target_calls)
    ran = calls - np.where(fresh, 0, before)
    row_blocks += count_row_blocks(ran, size, _shards(queue))
    before = calls
    ended = placement.fetch(state.done) & (slots >= 0)
    for slot, *result in _results(call, state, info, ended):
      request, slots[slot] = int(slots[slot]), -1
      done[request] = result
      if on_done is not None:
        on_done(request, result[0][: result[1]])
  seconds = time.perf_counter() - began - (programs.seconds() - compiling)
  tokens, counts, infos = zip(*(done[request] for request in sorted(done)))
  info = jax.tree.map(lambda *leaves: np.stack(leaves), *infos)
  return queue.finish(
    np.stack(tokens), np.array(counts), info, seconds, row_blocks
  )


def _span(call, state, info):
  """Blocks until it is worth a look."""
  program = call.compiled(
    loop.span, state, info, blocks=_SPAN, enough=_enough(call)
  )
  return program(*call.arguments, state, info)


def _shards(call) -> int:
  return 1 if call.mesh is None else call.mesh.shape['data']


def _enough(call) -> int:
  """Slots of a shard that are done before it is worth a look."""
  return max(1, call.lengths.size // _shards(call) // _SHARE)


def _results(call, state, info, ended):
  """(slot, tokens, number, figures) of the slots that `ended`."""
  if not ended.any():
    return
  rows, counts = gather(state, call)
  figures = jax.tree.map(placement.fetch, info)
  for slot in np.flatnonzero(ended):
    own = jax.tree.map(lambda leaf, slot=slot: leaf[slot], figures)
    yield int(slot), rows[slot], counts[slot], own


def _call(queue, slots, fresh):
  """The requests of the slots as a call that reads the fresh ones."""
  rows = np.maximum(slots, 0)
  return queue._replace(
    keys=placement.put_rows(
      _take(queue.keys, rows.astype(np.int32)), queue.mesh
    ),
    tokens=queue.tokens[rows],
    lengths=np.where(fresh, queue.lengths[rows], 1).astype(np.int32),
    prompt_lengths=queue.lengths[rows],
  )


@jax.jit
def _take(keys, rows):
  return keys[rows]


def _refill(call, fresh, state, info):
  """State and info with new rows read where `fresh`."""
  if state is None:
    return call.prefill(~fresh)
  new, source = _read(call, np.flatnonzero(fresh))
  rows = placement.put_rows((fresh, source), call.mesh)
  args = *rows, new, (state, info)
  shardings = placement.like((state, info), call.mesh)
  return programs.get(_select, *args, donate=(3,), out_shardings=shardings)(
    *args
  )


def _read(call, slots):
  """State and info of prompts that were read, and each slot's row in them.

  A few are read as a batch of their own; on a mesh that shares rows, or where
  there are many, all slots are, and those that go on write nothing. Then each
  has its own row, told as None: to look rows up, shards would exchange caches.
  """
  size = call.lengths.size
  few = rows_bucket(2 * _enough(call))
  if len(slots) > few or _shards(call) > 1:
    return call.prefill(~np.isin(np.arange(size), slots)), None
  rows, source = np.resize(slots, few), np.zeros(size, np.int32)
  source[slots] = np.arange(len(slots))
  part = call._replace(tokens=call.tokens[rows], lengths=call.lengths[rows])
  return part.prefill(np.arange(few) >= len(slots)), source


def _select(fresh, source, new, old):
  """Rows `source` [B] of `new` where `fresh` [B], of `old` elsewhere."""

  def leaf(new, old):
    if source is not None:
      new = jnp.take(new, source, axis=0, mode='clip')
    chosen = fresh.reshape(-1, *(1,) * (new.ndim - 1))
    return jnp.where(chosen, new, old)

  return jax.tree.map(leaf, new, old)
