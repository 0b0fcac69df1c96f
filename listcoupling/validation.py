"""Checks at the public door: values known before tracing, refused by name.

Traced values pass unchecked; functions that can meet an impossible law inside
`jit` return index -1 for it instead.
"""

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(*values) -> bool:
  """Whether every value can be looked at now, outside of any trace."""
  return not any(
    isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)
  )


def check_key(key, shape=(), name: str = 'key') -> None:
  """Raises ValueError unless `key` is typed, threefry, partitionable."""
  dtype = getattr(key, 'dtype', None)
  if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      f'{name} must be a typed key such as jax.random.key(0), got '
      f'{type(key).__name__} of dtype {dtype}; wrap a legacy key with '
      'jax.random.wrap_key_data(key).'
    )
  if key.shape != shape:
    raise ValueError(
      f'{name} must have shape {shape}, got {key.shape}; use jax.vmap for a '
      'batch of keys.'
    )
  implementation = str(jax.random.key_impl(key))
  if implementation != 'threefry2x32':
    raise ValueError(
      f'{name} must be a threefry2x32 key, got {implementation}: only '
      'counter-based noise is the same for every shape and device. Make it '
      "with jax.random.key(seed, impl='threefry2x32')."
    )
  if not jax.config.jax_threefry_partitionable:
    raise ValueError(
      "jax_threefry_partitionable must be True (JAX's default), got False: "
      'without it noise depends on the shape of the array it is drawn in. '
      "Set jax.config.update('jax_threefry_partitionable', True)."
    )


def check_logits(logits, name: str, *, ndims=(1,)) -> None:
  """Raises ValueError unless the rows of `logits` [..., N] are laws."""
  shape = jnp.shape(logits)
  if len(shape) not in ndims or 0 in shape:
    wanted = ' or '.join(f'{n}-d' for n in ndims)
    raise ValueError(
      f'{name} must be a non-empty {wanted} array, got shape {shape}; use '
      'jax.vmap for batches.'
    )
  dtype = jnp.result_type(logits)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'{name} must be of a float type, got {dtype}.')
  if not is_concrete(logits):
    return
  values = np.asarray(logits).astype(np.float32)  # a jnp cast could trace
  if np.isnan(values).any() or np.isposinf(values).any():
    bad = values[~(values < np.inf)].flat[0]
    raise ValueError(
      f'{name} must hold finite numbers or -inf (impossible), got {bad}.'
    )
  if np.isneginf(values).all(axis=-1).any():
    raise ValueError(
      f'{name} has a row in which every atom is -inf: no law is left; at '
      'least one atom must be possible.'
    )


def check_positive_int(value, name: str, *, minimum: int = 1) -> None:
  """Raises ValueError unless `value` is an int of at least `minimum`."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise ValueError(
      f'{name} must be a Python int, got {value!r} of type '
      f'{type(value).__name__}.'
    )
  if value < minimum:
    raise ValueError(f'{name} must be at least {minimum}, got {value}.')


def check_positive(**values) -> None:
  """Raises ValueError, by name, for what is not positive and finite."""
  for name, value in values.items():
    if is_concrete(value) and not 0 < value < np.inf:
      raise ValueError(f'{name} must be positive and finite, got {value}.')


def check_same_atoms(draft_logits, target_logits) -> None:
  """Raises ValueError unless both laws live on the same N atoms."""
  num_draft, num_target = (
    jnp.shape(draft_logits)[-1],
    jnp.shape(target_logits)[-1],
  )
  if num_draft != num_target:
    raise ValueError(
      f'draft_logits and target_logits must have the same number of atoms, '
      f'got {num_draft} and {num_target}; fill the shorter one with -inf.'
    )
