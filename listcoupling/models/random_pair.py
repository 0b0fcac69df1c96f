"""A random target and a drafter made of its first layers.

Residual branches are small beside embeddings of 1, so that the first layers
say most of what the whole net says, as in a trained one.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.models import transformer
from listcoupling.models.transformer_config import TransformerConfig

_SHARPNESS = 2.5  # standard deviation of the logits


def random_pair(
  key, config: TransformerConfig, *, draft_layers: int, gain: float
):
  """Two language models that agree as a drafter and its target do.

  Args:
    key: typed key.
    config: of the target; parameters have its dtype.
    draft_layers: layers of the drafter.
    gain: size of what a layer adds.

  Returns:
    (target, drafter), which share embeddings, final norm and head.

  Raises:
    ValueError: for a drafter of no layers or of more than the target has.

  Example:
    >>> config = TransformerConfig(64, 32, 2, 2, 2, 16, 64)
    >>> target, drafter = random_pair(
    ...   jax.random.key(0), config, draft_layers=1, gain=0.2)
    >>> drafter.config.num_layers
    1
  """
  if not 1 <= draft_layers <= config.num_layers:
    raise ValueError(
      f'draft_layers must be in [1, {config.num_layers}], got {draft_layers}.'
    )
  params = _draw(key, config, gain)
  first = {f'layer_{i}' for i in range(draft_layers)}
  kept = {
    name: value
    for name, value in params.items()
    if name in first or not name.startswith('layer_')
  }
  smaller = dataclasses.replace(config, num_layers=draft_layers)
  return (
    transformer.make_language_model(config, params),
    transformer.make_language_model(smaller, kept),
  )


def overlap(target, drafter, tokens: np.ndarray) -> float:
  """Mean of sum_i min(p_i, q_i) = 1 - TV over all positions of sequences.

  Args:
    target: LanguageModel.
    drafter: LanguageModel of the same vocabulary.
    tokens: [B, S]; on random ones trained models need not overlap as they
      do on text.

  Returns:
    A number in [0, 1].
  """
  logits = jax.jit(transformer.causal_logits, static_argnums=0)
  q, p = (
    jax.nn.softmax(logits(model.config, model.params, tokens))  # [B, S, V]
    for model in (target, drafter)
  )
  return float(jnp.minimum(q, p).sum(-1).mean())


def _draw(key, config, gain):
  wide = config.hidden_size**-0.5
  deviations = {
    'embed': _SHARPNESS * wide if config.tie_embeddings else 1.0,
    'head': _SHARPNESS * wide,
    'qkv': wide,
    'gate': wide,
    'up': wide,
    'gate_up': wide,
    'attention_out': gain * (config.num_heads * config.head_dim) ** -0.5,
    'down': gain * config.intermediate_size**-0.5,
  }
  shapes = jax.eval_shape(lambda: transformer.init_params(key, config))
  leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
  dtype = jnp.dtype(config.dtype)

  @functools.partial(jax.jit, static_argnums=1)
  def normal(key, shape, scale):
    draws = jax.random.normal(key, shape, jnp.float32)
    return (scale * draws).astype(dtype)

  drawn = []
  for index, (path, leaf) in enumerate(leaves):
    name = path[-1].key
    if name in deviations:
      own = jax.random.fold_in(key, index)
      drawn.append(normal(own, leaf.shape, jnp.float32(deviations[name])))
    else:
      fill = 0.0 if 'bias' in name else 1.0
      drawn.append(jnp.full(leaf.shape, fill, dtype))
  return jax.tree.unflatten(tree, drawn)
