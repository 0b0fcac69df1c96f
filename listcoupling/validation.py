"""Checks at the public door: values known before tracing, refused by name.

Traced values pass unchecked; functions that can meet an impossible law inside
`jit` return index -1 for it instead. Laws leave the door in one form: logits
as float32 with maximum 0, probabilities with sum 1.

Legend: N atoms, K drafts.
"""

import jax
import jax.numpy as jnp
import numpy as np


class ItemError(ValueError):
  """A fault of one of several, named `name[index]`: no count from 1.

  Example:
    >>> raise ItemError('prompts', 3, 'has no tokens.')
    Traceback (most recent call last):
    ...
    listcoupling.validation.ItemError: prompts[3] has no tokens.
  """

  def __init__(self, name: str, index: int, words: str):
    super().__init__(name, index, words)
    self.name, self.index, self.words = name, int(index), words

  def __str__(self):
    return f'{self.name}[{self.index}] {self.words}'


def is_concrete(*values) -> bool:
  """Whether every value can be looked at now, outside of any trace."""
  return not any(
    isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)
  )


def check_untraced(name: str, *values) -> None:
  """Raises ValueError inside of a transformation of JAX.

  Args:
    name: of the function that compiles its own programs.
    values: its arguments.
  """
  if not is_concrete(jnp.zeros(()), *values):  # under jit that is traced, too
    raise ValueError(
      f'{name} compiles its own programs; call it outside of jit, vmap and '
      'grad.'
    )


def shown(value) -> str:
  """A value in a message: one short line.

  Example:
    >>> shown(np.zeros((2, 1)))
    'array([[0.], [0.]])'
  """
  words = ' '.join(repr(value).split())
  return words if len(words) <= 80 else f'{words[:77]}...'


def as_numbers(values, name: str):
  """An array of real numbers: numpy's, unless it is JAX's or traced.

  Args:
    values: array, or nested sequences of numbers.
    name: of the argument, for the message.

  Raises:
    ValueError: rows of different lengths, text, objects, complex or masked
      numbers, integers that no array holds.

  Example:
    >>> as_numbers([[0.5, 0.5], [1.0]], 'p')
    Traceback (most recent call last):
    ...
    ValueError: p must be an array of real numbers, with rows of one length, \
got [[0.5, 0.5], [1.0]].
  """
  array = None
  try:
    if isinstance(values, jax.Array):
      array = values
    elif not np.ma.is_masked(values):
      traced = isinstance(values, (list, tuple)) and not is_concrete(values)
      array = (jnp if traced else np).asarray(values)
  except (TypeError, ValueError, OverflowError):
    pass
  if array is None or not _is_real(array.dtype):
    raise ValueError(
      f'{name} must be an array of real numbers, with rows of one length, got '
      f'{shown(values)}.'
    )
  wide = array.dtype == np.longdouble  # no type of JAX
  return array.astype(np.float64) if wide else array


def as_points(**arrays) -> list:
  """Two arrays of points [., D], by name, as `as_numbers` makes them.

  Raises:
    ValueError: for other shapes, or two different D.
  """
  points = [as_numbers(values, name) for name, values in arrays.items()]
  shapes = [each.shape for each in points]
  if {*map(len, shapes)} != {2} or len({size for _, size in shapes}) > 1:
    raise ValueError(
      f'{" and ".join(arrays)} must be points of as many coordinates, [., D] '
      f'each, got shapes {" and ".join(map(str, shapes))}.'
    )
  return points


def _is_real(dtype) -> bool:
  kinds = (jnp.bool_, jnp.integer, jnp.floating, np.longdouble)
  return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def check_scalar(value, name: str, *, minimum: int, integer=False) -> None:
  """Raises ValueError unless `value` is one number of at least `minimum`.

  Args:
    value: number or array without axes, perhaps traced.
    name: of the argument, for the message.
    minimum: of a value that is not traced.
    integer: whether only an integer will do.
  """
  kind, words = (jnp.integer, 'an integer of ') if integer else (jnp.number, '')
  try:
    array = as_numbers(value, name)
    fits = array.ndim == 0 and jnp.issubdtype(array.dtype, kind)
  except ValueError:
    fits = False
  if fits and is_concrete(value):
    fits = minimum <= np.asarray(array) < np.inf
  if not fits:
    raise ValueError(
      f'{name} must be {words}at least {minimum}, got {shown(value)}.'
    )


def check_key(key, shape=(), name: str = 'key') -> None:
  """Raises ValueError unless `key` is typed, threefry, partitionable."""
  dtype = getattr(key, 'dtype', None)
  if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    found, remedy = shown(key), 'jax.random.key(seed) makes one'
    if dtype is not None:
      found = f'{type(key).__name__} of dtype {dtype}'
      remedy = 'jax.random.wrap_key_data(key) wraps a legacy key'
    raise ValueError(
      f'{name} must be a typed key such as jax.random.key(0), got {found}; '
      f'{remedy}.'
    )
  if key.shape != shape:
    remedy = (
      'jax.random.split makes a batch of keys'
      if shape
      else 'use jax.vmap for a batch of keys'
    )
    raise ValueError(
      f'{name} must have shape {shape}, got {key.shape}; {remedy}.'
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


def check_positive_int(value, name: str, *, minimum: int = 1) -> None:
  """Raises ValueError unless `value` is an int of at least `minimum`."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise ValueError(
      f'{name} must be a Python int, got {shown(value)} of type '
      f'{type(value).__name__}.'
    )
  if value < minimum:
    raise ValueError(f'{name} must be at least {minimum}, got {value}.')


def check_positive(**values) -> None:
  """Raises ValueError, by name, for what is no positive, finite number."""
  for name, value in values.items():
    number = as_numbers(value, name)
    if number.ndim or (is_concrete(number) and not 0 < float(number) < np.inf):
      raise ValueError(
        f'{name} must be positive and finite, got {shown(value)}.'
      )


def check_logits(logits, name: str, *, ndims=(1,)) -> None:
  """Raises ValueError unless the rows of `logits` [..., N] are laws."""
  logits = as_numbers(logits, name)
  shape = logits.shape
  if len(shape) not in ndims or 0 in shape:
    several = ', or 2-d: [K, N], a law for each draft' if 2 in ndims else ''
    raise ValueError(
      f'{name} must be a non-empty 1-d array{several}, got shape {shape}; use '
      'jax.vmap for batches.'
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f'{name} must be of a float type, got {logits.dtype}.')
  if not is_concrete(logits):
    return
  values = np.asarray(logits)
  bad = values[~(values < np.inf)]
  if bad.size:
    raise ValueError(
      f'{name} must hold finite numbers or -inf (impossible), got {bad[0]}.'
    )
  if np.isneginf(values).all(axis=-1).any():
    raise ValueError(
      f'{name} has a row in which every atom is -inf: no law is left; at '
      'least one atom must be possible.'
    )


def as_logits(values, name: str, *, ndims=(1,)) -> jax.Array:
  """Door check of logits; returns them as float32 with maximum 0.

  The maximum goes first, in the precision of the caller: float64 logits keep
  their differences under any offset, and may exceed float32.

  Args:
    values: [..., N] of any float type, -inf = impossible.
    name: of the argument, for the message.
    ndims: numbers of axes that are accepted.

  Returns:
    [..., N] float32; rows without a finite maximum as they are.

  Example:
    >>> as_logits(np.array([1e39, 1e39 - 1e30]), 'logits').tolist()
    [0.0, -1.0000000150474662e+30]
  """
  values = as_numbers(values, name)  # float64 stays, jnp would round it
  check_logits(values, name, ndims=ndims)
  if isinstance(values, np.ndarray):
    return jnp.asarray(_below_maximum(values, np))
  return _jitted_below_maximum(values)


def _below_maximum(logits, xp):
  """Logits minus their maximum, in at least float32, as float32."""
  if logits.dtype != np.float64:
    logits = logits.astype(np.float32)
  best = xp.max(logits, axis=-1, keepdims=True)
  with np.errstate(over='ignore', invalid='ignore'):
    gaps = logits - xp.where(xp.isfinite(best), best, xp.zeros_like(best))
    return gaps.astype(np.float32)


@jax.jit
def _jitted_below_maximum(logits):
  return _below_maximum(logits, jnp)


def as_pair(key, draft_logits, target_logits) -> tuple[jax.Array, jax.Array]:
  """Door check of a coupling of two laws; both `as_logits` [N]."""
  draft_logits = as_logits(draft_logits, 'draft_logits')
  return as_lists(key, draft_logits, target_logits, 1)[:2]


def as_lists(key, draft_logits, target_logits, num_drafts=None):
  """Door check of a coupling of lists.

  Args:
    key: typed key.
    draft_logits: [N] or [K, N].
    target_logits: [N].
    num_drafts: K, or None where `draft_logits` tells it.

  Returns:
    draft_logits [N] or [K, N], target_logits [N], both `as_logits`; K.

  Raises:
    ValueError: naming the argument, its value and the remedy.
  """
  check_key(key)
  draft_logits = as_logits(draft_logits, 'draft_logits', ndims=(1, 2))
  target_logits = as_logits(target_logits, 'target_logits')
  sizes = draft_logits.shape[-1], target_logits.shape[-1]
  if sizes[0] != sizes[1]:
    raise ValueError(
      'draft_logits and target_logits must have the same number of atoms, '
      f'got {sizes[0]} and {sizes[1]}; fill the shorter one with -inf.'
    )
  if num_drafts is None and draft_logits.ndim == 1:
    raise ValueError(
      'num_drafts must be given with draft_logits of shape [N], got None; '
      'it may be left out only with one row per draft, [K, N].'
    )
  num_drafts = _num_rows(draft_logits, 'draft_logits', num_drafts)
  return draft_logits, target_logits, num_drafts


def _num_rows(laws, name, num_drafts):
  """K, from the argument or from laws [K, N], which must agree."""
  if num_drafts is None and laws.ndim == 2:
    num_drafts = laws.shape[0]
  check_positive_int(num_drafts, 'num_drafts')
  if laws.ndim == 2 and laws.shape[0] != num_drafts:
    raise ValueError(
      f'{name} has {laws.shape[0]} rows but num_drafts is {num_drafts}; give '
      'one row per draft, or one law of shape [N].'
    )
  return num_drafts


def as_probabilities(values, name: str, *, ndims=(1,)) -> jax.Array:
  """Door check of probabilities [..., N]; returns them normalised."""
  values = as_numbers(values, name)
  shape = values.shape
  if len(shape) not in ndims or 0 in shape:
    wanted = ' or '.join(('[N]', '[K, N]')[n - 1] for n in ndims)
    raise ValueError(
      f'{name} must be a non-empty array of shape {wanted}, got {shape}.'
    )
  if is_concrete(values):
    _check_probabilities(values, name)
  values = jnp.asarray(values)
  if values.dtype != jnp.float64:
    values = values.astype(jnp.float32)
  return values / jnp.sum(values, axis=-1, keepdims=True)


def _check_probabilities(values, name):
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


def as_probability_pair(p, q, *, ndims=(1,)) -> tuple[jax.Array, jax.Array]:
  """Both laws normalised and in one dtype."""
  p = as_probabilities(p, 'p', ndims=ndims)
  q = as_probabilities(q, 'q')
  if p.shape[-1] != q.shape[-1]:
    raise ValueError(
      f'p and q must have the same number of atoms, got shapes {p.shape} and '
      f'{q.shape}; fill the shorter one with zeros.'
    )
  with jax.numpy_dtype_promotion('standard'):  # whatever the caller has set
    dtype = jnp.promote_types(p.dtype, q.dtype)
  return p.astype(dtype), q.astype(dtype)


def as_probability_lists(p, q, num_drafts):
  """Laws p [R, N] (R = 1 for drafts alike, else K), q [N], and K."""
  p, q = as_probability_pair(p, q, ndims=(1, 2))
  num_drafts = _num_rows(p, 'p', num_drafts)
  # K is a traced number inside: one compilation serves every K.
  return jnp.atleast_2d(p), q, jnp.asarray(num_drafts, p.dtype)
