"""Probability vectors at the public door: checked, normalised, in one dtype.

Values known before tracing are refused by name; traced ones pass.
"""

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import validation


def check_law(values, name: str, ndims) -> jax.Array:
  """Door check of probabilities [..., N]; returns them normalised."""
  shape = np.shape(values)
  if len(shape) not in ndims or 0 in shape:
    wanted = ' or '.join(('[N]', '[K, N]')[n - 1] for n in ndims)
    raise ValueError(
      f'{name} must be a non-empty array of shape {wanted}, got {shape}.'
    )
  if validation.is_concrete(values):
    laws = np.asarray(values, np.float64)
    sums = laws.sum(axis=-1)
    if not np.all(laws >= 0):
      raise ValueError(
        f'{name} must hold probabilities, got {laws[~(laws >= 0)].flat[0]}; '
        'logits go through jax.nn.softmax first.'
      )
    # Half precision rounds the sum of an honest law by more than 1e-3.
    dtype = getattr(values, 'dtype', np.dtype(float))
    exact = not jnp.issubdtype(dtype, jnp.floating)
    tolerance = 1e-3 if exact else max(1e-3, float(jnp.finfo(dtype).eps))
    off = ~(np.abs(sums - 1) <= tolerance)
    if np.any(off):
      raise ValueError(
        f'{name} must sum to 1, got {sums[off][0]}; divide it by its sum.'
      )
  values = jnp.asarray(values)
  if values.dtype != jnp.float64:
    values = values.astype(jnp.float32)
  return values / jnp.sum(values, axis=-1, keepdims=True)


def check_pair(p, q, ndims=(1,)):
  """Both laws normalised and in one dtype."""
  p, q = check_law(p, 'p', ndims), check_law(q, 'q', (1,))
  if p.shape[-1] != q.shape[-1]:
    raise ValueError(
      f'p and q must have the same number of atoms, got shapes {p.shape} and '
      f'{q.shape}; fill the shorter one with zeros.'
    )
  dtype = jnp.promote_types(p.dtype, q.dtype)
  return p.astype(dtype), q.astype(dtype)


def check_lists(p, q, num_drafts):
  """Laws p [R, N] (R = 1 for drafts alike, else K), q [N], and K."""
  p, q = check_pair(p, q, (1, 2))
  if num_drafts is None and p.ndim == 2:
    num_drafts = p.shape[0]
  validation.check_positive_int(num_drafts, 'num_drafts')
  if p.ndim == 2 and p.shape[0] != num_drafts:
    raise ValueError(
      f'p has {p.shape[0]} rows but num_drafts is {num_drafts}; give one row '
      'per draft, or one law of shape [N].'
    )
  # K is a traced number inside: one compilation serves every K.
  return jnp.atleast_2d(p), q, jnp.asarray(num_drafts, p.dtype)
