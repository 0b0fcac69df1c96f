"""Windows of text, and the losses of a language model on them.

A drafter learns from its target: cross-entropy on the text mixed with
KL(target || drafter), as in DistillSpec (Zhou et al., arXiv 2310.08461,
forward KL). What counts for a drafter is the overlap sum_i min(p_i, q_i)
= 1 - TV with its target, which bounds the acceptance of a single draft.

The logits [B, S, V] are never whole where they are many: tokens go through the
output head a chunk at a time, forward and once more for the gradient.

Legend: B batch, S window length, T tokens of text, V vocabulary, D hidden size,
n tokens of a chunk.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from listcoupling.models import quantised, transformer

ROWS = PartitionSpec(('data', 'fsdp'))  # of a batch on a mesh
MOST_LOGITS = 2**25  # of a chunk on a device: 128 MiB in float32
_NO_LABEL = -1  # of what fills up the last chunk


def sample_windows(
  key: jax.Array, tokens: jax.Array, batch: int, length: int
) -> jax.Array:
  """Uniform windows of a token row: [T] -> [B, S]."""
  last = tokens.shape[0] - length
  starts = jax.random.randint(key, (batch,), 0, last + 1, jnp.int32)
  return tokens[starts[:, None] + jnp.arange(length, dtype=starts.dtype)[None]]


def even_windows(tokens: np.ndarray, config) -> np.ndarray:
  """Evenly spaced windows [W, B, S + 1] of a token row, W batches."""
  length = config.sequence_length + 1
  batches = -(-config.eval_windows // config.batch_size)
  last = len(tokens) - length
  starts = np.linspace(0, last, batches * config.batch_size).astype(int)
  windows = tokens[starts[:, None] + np.arange(length)]
  return windows.reshape(batches, config.batch_size, length)


def loss_and_metrics(
  distillation, student, windows, teacher=None, mesh: Mesh | None = None
):
  """Mean loss over the S tokens after the first of each window.

  Args:
    distillation: share in [0, 1] of KL(teacher || student); unused without a
      teacher.
    student: (TransformerConfig, parameters) of the model being trained.
    windows: [B, S + 1] int32.
    teacher: None, or (its TransformerConfig, its parameters).
    mesh: in the standard form of `placement`; 'data' and 'fsdp' share the
      windows, 'tp' the vocabulary.

  Returns:
    loss [] in nats per token, and metrics: `cross_entropy`, and with a teacher
    `kl` and `overlap` (mean of sum_i min(p_i, q_i)).
  """
  if mesh is not None:
    rows = NamedSharding(mesh, ROWS)
    windows = jax.lax.with_sharding_constraint(windows, rows)
  inputs, labels = windows[:, :-1], windows[:, 1:]
  models = [student] if teacher is None else [student, teacher]
  tables = [transformer.output_table(*model) for model in models]
  hidden = [transformer.causal_hidden(*model, inputs) for model in models]
  sums = _shard_sums
  if mesh is not None:
    # By hand: the table is gathered once and its gradient summed once, not in
    # every turn of the loop.
    sums = jax.shard_map(
      _shard_sums,
      mesh=mesh,
      in_specs=(PartitionSpec(), ROWS, ROWS),
      out_specs=ROWS,
      axis_names={'data', 'fsdp'},
      check_vma=False,
    )
  metrics = jax.tree.map(
    lambda x: jnp.sum(x) / labels.size, sums(tables, hidden, labels)
  )
  if teacher is None:
    return metrics['cross_entropy'], metrics
  rest = (1 - distillation) * metrics['cross_entropy']
  return distillation * metrics['kl'] + rest, metrics


def _shard_sums(tables, hidden, labels) -> dict[str, jax.Array]:
  """Sums [1] of the metrics over the tokens that a device has.

  Args:
    tables: [V, D] of student and perhaps teacher.
    hidden: [B, S, D] of each.
    labels: [B, S].
  """
  tokens = labels.size
  chunks = -(-tokens * tables[0].shape[0] // MOST_LOGITS)
  if chunks == 1:
    return _chunk_sums(tables, hidden, labels)
  size = -(-tokens // chunks)

  def cut(x, fill):
    """[B, S, ...] -> [chunks, 1, n, ...]."""
    x = x.reshape(tokens, *x.shape[2:])
    pads = [(0, chunks * size - tokens)] + [(0, 0)] * (x.ndim - 1)
    x = jnp.pad(x, pads, constant_values=fill)
    return x.reshape(chunks, 1, size, *x.shape[1:])

  # Without the checkpoint the logits of all chunks are kept for the gradient.
  sums = jax.checkpoint(functools.partial(_chunk_sums, tables))
  parts = [cut(x, 0) for x in hidden], cut(labels, _NO_LABEL)
  found = jax.lax.map(lambda parts: sums(*parts), parts)
  return jax.tree.map(lambda x: jnp.sum(x, axis=0), found)


def _chunk_sums(tables, hidden, labels) -> dict[str, jax.Array]:
  """`_shard_sums` of tokens whose logits may be whole."""
  counts = labels != _NO_LABEL
  log_laws = [
    jax.nn.log_softmax(quantised.logits(x, table))
    for x, table in zip(hidden, tables, strict=True)
  ]

  def total(values):
    return jnp.sum(values, where=counts, keepdims=True)[0]

  log_p = log_laws[0]
  picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1, mode='clip')[
    ..., 0
  ]
  sums = {'cross_entropy': -total(picked)}
  if len(log_laws) == 2:
    log_q = log_laws[1]
    q = jnp.exp(log_q)
    sums['kl'] = total(jnp.sum(q * (log_q - log_p), axis=-1))
    sums['overlap'] = total(jnp.sum(jnp.minimum(q, jnp.exp(log_p)), axis=-1))
  return sums


def mean_metrics(evaluate, windows) -> dict[str, float]:
  """Means of `evaluate(batch)` over the batches of [W, B, S + 1]."""
  rows = [evaluate(batch) for batch in windows]
  names = rows[0]
  return {name: float(np.mean([row[name] for row in rows])) for name in names}
