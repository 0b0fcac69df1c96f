"""How far apart two evaluations of one formula in floating point may be.

Monte Carlo arithmetic (Parker, Pierce and Eggert, 2000): every operation of a
program is followed by a random change of the size of its rounding, and the
results scatter as they would under another order of sums.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from tests.statistics import SIGMAS

_SAMPLES = 16
_LARGER = 2.0**12  # the changes than roundings, which vanish beside them

# Programs within programs.
_CALLS = {'closed_call', 'custom_jvp_call', 'custom_vjp_call', 'jit', 'remat2'}
# What moves numbers, or chooses among them, rounds nothing.
_EXACT = frozenset(
  'abs broadcast_in_dim clamp concatenate copy cummax dynamic_slice '
  'dynamic_update_slice gather iota max min neg pad reduce_max reduce_min '
  'reshape rev scatter select_n sign slice sort split squeeze stack '
  'stop_gradient top_k transpose'.split()
)
# Half a unit in the last place; loops are taken as one operation.
_ROUNDED = frozenset(
  'add add_any cond convert_element_type div integer_pow mul rem scan sqrt '
  'square sub while'.split()
)
_SUMS = {'cumsum', 'dot_general', 'reduce_sum'}
# Two units.
_FUNCTIONS = frozenset(
  'cos erf erf_inv erfc exp exp2 expm1 lgamma log log1p logistic pow rsqrt sin '
  'tan tanh'.split()
)


def apart(function, *arguments) -> float:
  """Most that two results differ by if only their roundings do.

  Args:
    function: of arrays to one array, in float32, finite all the way; a loop is
      one operation, and sums are taken one term after the other.
    *arguments: trees of its arrays.

  Returns:
    SIGMAS standard deviations of a difference, of the element where they are
    largest.
  """
  traced = jax.make_jaxpr(function)(*arguments)
  (result,) = traced.out_avals
  assert result.dtype == jnp.float32, f'of float32 only, got {result.dtype}'
  leaves, rng = jax.tree.leaves(arguments), np.random.default_rng(0)
  found = [
    _run(traced.jaxpr, traced.consts, leaves, rng)[0] for _ in range(_SAMPLES)
  ]
  deviation = np.std(np.float64(found), axis=0, ddof=1).max() / _LARGER
  return float(SIGMAS * np.sqrt(2) * deviation)


def promised(function, dtype='float32') -> float:
  """The error that a docstring promises."""
  words = ' '.join(function.__doc__.split())
  return float(re.search(rf'(\S+) in {dtype}', words)[1])


def _run(program, consts, arguments, rng):
  """Results of a program whose operations are each followed by a change."""
  known = dict(zip(program.constvars, consts, strict=True))
  known |= zip(program.invars, arguments, strict=True)

  def value(atom):
    return atom.val if isinstance(atom, core.Literal) else known[atom]

  for eqn in program.eqns:
    operands = [*map(value, eqn.invars)]
    if eqn.primitive.name in _CALLS:
      inner = eqn.params.get('jaxpr') or eqn.params['call_jaxpr']
      own = getattr(inner, 'consts', ())
      results = _run(getattr(inner, 'jaxpr', inner), own, operands, rng)
    else:
      results = _bind(eqn, operands)
      results = [_changed(eqn, operands, result, rng) for result in results]
    known |= zip(eqn.outvars, results, strict=True)
  return [*map(value, program.outvars)]


def _bind(eqn, operands):
  params = eqn.primitive.get_bind_params(eqn.params)
  results = eqn.primitive.bind(*operands, **params)
  return results if eqn.primitive.multiple_results else [results]


def _changed(eqn, operands, result, rng):
  """A result and its rounding, enlarged."""
  if result.dtype != jnp.float32 or eqn.primitive.name in _EXACT:
    return result
  name, size, roundings = eqn.primitive.name, jnp.abs(result), 1.0
  assert name in _ROUNDED | _SUMS | _FUNCTIONS, f'{name} is not counted'
  if name in _SUMS:
    # Partial sums are as large as the sum, or as a walk of random signs.
    (squares,) = _bind(eqn, [jnp.square(x) for x in operands])
    size = jnp.maximum(size, jnp.sqrt(squares))
    roundings = np.sqrt(_terms(eqn, operands, result))
  elif name in _FUNCTIONS:
    roundings = 4.0
  unit = np.finfo(np.float32).eps / 2  # the most; errors up to it are uniform
  deviation = _LARGER * roundings * unit / np.sqrt(3)
  return result + size * np.float32(deviation * rng.normal(size=result.shape))


def _terms(eqn, operands, result):
  """Numbers in each sum."""
  match eqn.primitive.name:
    case 'dot_general':
      (axes, _), _ = eqn.params['dimension_numbers']
      return np.prod([operands[0].shape[axis] for axis in axes], dtype=float)
    case 'cumsum':
      return operands[0].shape[eqn.params['axis']]
  return operands[0].size / result.size
