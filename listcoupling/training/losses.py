"""Windows of text, and the losses of a language model on them.

A drafter learns from its target: cross-entropy on the text mixed with
KL(target || drafter), as in DistillSpec (Zhou et al., arXiv 2310.08461,
forward KL). What counts for a drafter is the overlap sum_i min(p_i, q_i)
= 1 - TV with its target, which bounds the acceptance of a single draft.

Legend: B batch, S window length, T tokens of text, V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.models import transformer


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


def loss_and_metrics(distillation, student, windows, teacher=None):
  """Mean loss over the S tokens after the first of each window.

  Args:
    distillation: share in [0, 1] of KL(teacher || student); unused without a
      teacher.
    student: (TransformerConfig, parameters) of the model being trained.
    windows: [B, S + 1] int32.
    teacher: None, or (its TransformerConfig, its parameters).

  Returns:
    loss [] in nats per token, and metrics: `cross_entropy`, and with a teacher
    `kl` and `overlap` (mean of sum_i min(p_i, q_i)).
  """
  inputs, labels = windows[:, :-1], windows[:, 1:]
  logits = transformer.causal_logits(*student, inputs)
  log_p = jax.nn.log_softmax(logits)  # [B, S, V]
  picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1)
  metrics = {'cross_entropy': -jnp.mean(picked)}
  if teacher is None:
    return metrics['cross_entropy'], metrics
  teacher_logits = transformer.causal_logits(*teacher, inputs)
  log_q = jax.nn.log_softmax(teacher_logits)
  q = jnp.exp(log_q)
  metrics['kl'] = jnp.mean(jnp.sum(q * (log_q - log_p), axis=-1))
  metrics['overlap'] = jnp.mean(jnp.sum(jnp.minimum(q, jnp.exp(log_p)), -1))
  rest = (1 - distillation) * metrics['cross_entropy']
  return distillation * metrics['kl'] + rest, metrics


def mean_metrics(evaluate, windows) -> dict[str, float]:
  """Means of `evaluate(batch)` over the batches of [W, B, S + 1]."""
  rows = [evaluate(batch) for batch in windows]
  names = rows[0]
  return {name: float(np.mean([row[name] for row in rows])) for name in names}
