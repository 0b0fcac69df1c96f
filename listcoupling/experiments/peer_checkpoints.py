"""Random checkpoints for the comparison with other libraries.

A target and a drafter made of its first layers, written as Hugging Face
directories that any library can load. Weights are random, with a gain tuned
for an overlap 1 - TV of about .75. That is more than the .66 of the shipped,
trained pair, so block efficiencies and rates of speculative decoding on random
pairs are optimistic, for either library.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling.models import pretrained, transformer


class _Size(NamedTuple):
  """Sizes of a target and of the drafter made of its first layers."""

  vocab_size: int
  hidden_size: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  intermediate_size: int
  draft_layers: int
  # Size of what a layer adds, beside embeddings of 1: the drafter then shares
  # about three quarters of the target's mass.
  gain: float

  def config(self) -> transformer.TransformerConfig:
    """Of the target."""
    return transformer.TransformerConfig(
      *self[:5],
      head_dim=self.hidden_size // self.num_heads,
      intermediate_size=self.intermediate_size,
      tie_embeddings=False,
    )


_SIZES = {
  '1M': _Size(1024, 128, 4, 4, 2, 448, draft_layers=1, gain=0.2),
  '25M': _Size(1024, 512, 8, 8, 4, 1408, draft_layers=1, gain=0.13),
  '100M': _Size(8192, 768, 12, 12, 4, 2560, draft_layers=2, gain=0.1),
}
SIZES = {name: size.config() for name, size in _SIZES.items()}
DRAFT_LAYERS = {name: size.draft_layers for name, size in _SIZES.items()}
NAMES = (*SIZES, 'shipped')
_SHARPNESS = 2.5  # standard deviation of the logits


def random_pair(size: str, key: jax.Array):
  """A random target of a size and the drafter of its first layers.

  Residual branches are small, so that the first layers say most of what the
  whole net says, as in a trained one.

  Args:
    size: of `SIZES`.
    key: typed key.

  Returns:
    (target, drafter), which share embeddings, final norm and head.

  Raises:
    ValueError: for another size.

  Example:
    >>> target, drafter = random_pair('1M', jax.random.key(0))
    >>> drafter.config.num_layers
    1
  """
  if size not in SIZES:
    raise ValueError(f'size must be one of {list(SIZES)}, got {size!r}.')
  config, gain = SIZES[size], _SIZES[size].gain
  deviations = dict(
    embed=1.0,
    head=_SHARPNESS * config.hidden_size**-0.5,
    qkv=config.hidden_size**-0.5,
    gate_up=config.hidden_size**-0.5,
    attention_out=gain * (config.num_heads * config.head_dim) ** -0.5,
    down=gain * config.intermediate_size**-0.5,
  )

  def redraw(index, path, leaf):
    scale = deviations.get(path[-1].key)
    own = jax.random.fold_in(key, index)
    return leaf if scale is None else scale * jax.random.normal(own, leaf.shape)

  leaves, tree = jax.tree_util.tree_flatten_with_path(
    transformer.init_params(key, config)
  )
  params = jax.tree.unflatten(
    tree, [redraw(i, *leaf) for i, leaf in enumerate(leaves)]
  )
  layers = DRAFT_LAYERS[size]
  kept = {f'layer_{i}' for i in range(layers)}
  first = {
    name: value
    for name, value in params.items()
    if name in kept or not name.startswith('layer_')
  }
  smaller = dataclasses.replace(config, num_layers=layers)
  return (
    transformer.make_language_model(config, params),
    transformer.make_language_model(smaller, first),
  )


def overlap(target, drafter, tokens: np.ndarray) -> float:
  """Mean of sum_i min(p_i, q_i) = 1 - TV over all positions of sequences.

  Args:
    target: LanguageModel.
    drafter: LanguageModel of the same vocabulary.
    tokens: [B, S]; on random ones, as in the comparison, trained models need
      not overlap as they do on text.

  Returns:
    A number in [0, 1].
  """
  logits = jax.jit(transformer.causal_logits, static_argnums=0)
  q, p = (
    jax.nn.softmax(logits(model.config, model.params, tokens))  # [B, S, V]
    for model in (target, drafter)
  )
  return float(jnp.minimum(q, p).sum(-1).mean())


def write(size: str, folder: pathlib.Path):
  """Directories of target and drafter, made unless they are shipped.

  Args:
    size: of `SIZES`, or 'shipped' for the pair that the library ships.
    folder: where random ones go.

  Returns:
    (target's directory, drafter's directory).

  Raises:
    ValueError: for another size.
  """
  if size == 'shipped':
    return pretrained.SHIPPED / 'target', pretrained.SHIPPED / 'drafter'
  folders = folder / f'{size}-target', folder / f'{size}-drafter'
  for model, own in zip(random_pair(size, jax.random.key(0)), folders):
    pretrained.save_pretrained(model, own)
  return folders
