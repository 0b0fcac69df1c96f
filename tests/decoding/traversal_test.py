"""Traversal verification against its definition, tree by tree."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from listcoupling.decoding import draft, filters, traversal, tree, verify
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, statistics
from tests.decoding import exact

VOCAB = 4
TARGET, DRAFTERS = fakes.random_pair(VOCAB, 1.2, 5, 2)
PROMPT = (0, 2)
SAMPLING = filters.sampling_params(GenerateOptions())


def law_after(model, path):
  return exact.law_after(model, (*PROMPT, *path))


def drafter_of(chain, diverse):
  return DRAFTERS[chain % 2 if diverse else 0]


def outcomes(chains, diverse, *, forgetful=False):
  """{text: probability} that the definition gives to one set of chains.

  `forgetful` leaves out what a draw that was rejected before has covered.
  """
  found = {}

  def visit(path, members, weight, mass):
    """Judges a node reached with `mass`; returns what is rejected."""
    rest, tried = law_after(TARGET, path), {}
    for chain in members if len(path) < len(chains[0]) else ():
      token = chains[chain][len(path)]
      covered = law_after(drafter_of(chain, diverse), path)
      if token not in tried:
        tried[token] = True
        own = [c for c in members if chains[c][len(path)] == token]
        accept = min(1.0, weight * rest[token] / covered[token])
        mass = visit((*path, token), own, accept, mass)
      elif forgetful:
        continue
      left = np.maximum(weight * rest - covered, 0)
      if left.sum() > 0:
        weight = left.sum() / (left.sum() + (1 - weight))
        rest = left / left.sum()
      else:
        weight = float(not path)
    for token in range(VOCAB):
      text = (*path, token)
      found[text] = found.get(text, 0.0) + mass * weight * rest[token]
    return mass * (1 - weight)

  assert visit((), range(len(chains)), 1.0, 1.0) == 0
  return found


def drawn(width, length, diverse):
  """Every set of chains and its probability."""
  paths = list(itertools.product(range(VOCAB), repeat=length))
  for chains in itertools.product(paths, repeat=width):
    mass = 1.0
    for chain, path in enumerate(chains):
      for depth, token in enumerate(path):
        law = law_after(drafter_of(chain, diverse), path[:depth])
        mass *= law[token]
    yield chains, mass


def output_law(width, length, diverse, **kwargs):
  """Law of the first length + 1 tokens, the target going on by itself."""
  law = np.zeros((VOCAB,) * (length + 1))
  for chains, mass in drawn(width, length, diverse):
    for text, share in outcomes(chains, diverse, **kwargs).items():
      for rest in itertools.product(
        range(VOCAB), repeat=length + 1 - len(text)
      ):
        more = mass * share
        for at in range(len(text), length + 1):
          more *= law_after(TARGET, (*text, *rest)[:at])[(*text, *rest)[at]]
        law[(*text, *rest)] += more
  return law


def target_law(length):
  law = np.ones((VOCAB,) * (length + 1))
  for text in np.ndindex(law.shape):
    for at, token in enumerate(text):
      law[text] *= law_after(TARGET, text[:at])[token]
  return law


def law_error(width, length):
  """Of a sum over all sets of chains, beside which few factors count."""
  sets, most = VOCAB ** (width * length), target_law(length).max()
  return statistics.rounding(sets, most, np.float64)


@pytest.mark.parametrize(
  'width, length, diverse',
  [(1, 3, False), (2, 2, False), (2, 2, True), (3, 1, True), (4, 1, False)],
)
def test_the_law_by_enumeration(width, length, diverse):
  found = output_law(width, length, diverse)
  error = law_error(width, length)
  np.testing.assert_allclose(found, target_law(length), rtol=0, atol=error)


@pytest.mark.parametrize('width, length', [(3, 1), (2, 2)])
def test_a_draw_that_came_before_counts(width, length):
  """Negative control: the enumeration sees it left out."""
  found = output_law(width, length, False, forgetful=True)
  off = np.abs(found - target_law(length)).max()
  assert off > law_error(width, length)


def judged(key, chains, *, diverse, method):
  """Tokens and count of one block on given chains [K, L]."""
  width, length = chains.shape
  paths = [
    tuple(chains[chain, :depth])
    for depth in range(1, length + 1)
    for chain in range(width)
  ]
  laws = [
    law_after(drafter_of(chain, diverse), tuple(chains[chain, :depth]))
    for depth in range(length)
    for chain in range(width)
  ]
  logits = [law_after(TARGET, path) for path in [(), *paths]]
  config = draft.SpeculativeConfig(
    (), VOCAB, width, length, width * length, True, True
  )
  zero = jnp.zeros(1, jnp.int32)
  context = verify.Context(
    key[None], zero, zero, None, jnp.log(jnp.float32(np.array(logits)))[None]
  )
  laws = jnp.log(jnp.float32(np.array(laws)))
  proposals = tree.chains(
    jnp.asarray(chains.T[None], jnp.int32),
    filters.Law(laws.reshape(1, length, width, VOCAB), None),
  )
  out = method(context, proposals, config, SAMPLING)
  return out.tokens[0], out.count[0], out.path[0], out.num_accepted[0]


TREES = [
  ([[1, 3], [1, 3]], False),  # twice the same
  ([[1, 3], [3, 0], [1, 3]], False),  # a path that comes back
  ([[0, 1], [0, 1], [2, 1]], True),
]


@pytest.mark.parametrize('chains, diverse', TREES)
def test_one_tree_is_judged_by_the_definition(chains, diverse):
  """The law of the block given its drafts, not of the text alone."""
  trials = 20_000
  keys = jax.random.split(jax.random.key(3), trials)
  judge = functools.partial(
    judged,
    chains=np.array(chains),
    diverse=diverse,
    method=traversal.verify_traversal,
  )
  tokens, count, path, accepted = map(
    np.asarray, jax.jit(jax.vmap(judge))(keys)
  )
  wanted = outcomes(chains, diverse)
  names = {text: number for number, text in enumerate(wanted)}
  found = [
    names[tuple(row[:size])] for row, size in zip(tokens.tolist(), count)
  ]
  statistics.assert_law(found, list(wanted.values()))
  wrong = outcomes(chains, diverse, forgetful=True)
  statistics.assert_not_law(found, [wrong[text] for text in wanted])
  # What is kept in the cache is what was written.
  width = len(chains)
  for row, nodes, size in zip(tokens[:500], path[:500], accepted[:500]):
    for depth, node in enumerate(nodes[:size]):
      assert (node - 1) // width == depth
      assert chains[(node - 1) % width][depth] == row[depth]


def test_one_chain_is_block_verification():
  keys = jax.random.split(jax.random.key(4), 2000)
  chain = np.array([[3, 3, 3]])
  judge = functools.partial(judged, chains=chain, diverse=False)
  one, other = (
    jax.jit(jax.vmap(functools.partial(judge, method=method)))(keys)
    for method in (traversal.verify_traversal, verify.verify_block)
  )
  for mine, theirs in zip(one, other):
    np.testing.assert_array_equal(mine, theirs)
  assert len(np.unique(one[1])) > 2


def scatters(platform):
  """Types of the arrays that two rows' verification scatters into."""
  config = draft.SpeculativeConfig((), VOCAB, 2, 2, 4, True, True)
  zeros = jnp.zeros(2, jnp.int32)

  def verified(logits, tokens, laws):
    keys = jax.random.split(jax.random.key(0), 2)
    context = verify.Context(keys, zeros, zeros, None, logits)
    proposals = tree.chains(tokens, filters.Law(laws, None))
    return traversal.verify_traversal(context, proposals, config, SAMPLING)

  shapes = (
    jax.ShapeDtypeStruct((2, 5, VOCAB), jnp.float32),
    jax.ShapeDtypeStruct((2, 2, 2), jnp.int32),
    jax.ShapeDtypeStruct((2, 2, 2, VOCAB), jnp.float32),
  )
  lowered = export.export(jax.jit(verified), platforms=[platform])(*shapes)
  pattern = r'stablehlo\.scatter"\(.*?\}\) : \(tensor<([^>]*)>'
  return set(re.findall(pattern, lowered.mlir_module(), re.S))


def test_a_tpu_writes_what_is_left_without_a_loop_over_rows():
  left = f'2x3x{VOCAB}xf32'  # rows, depths, atoms
  assert left in scatters('cpu') and left not in scatters('tpu')
