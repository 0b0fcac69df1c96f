"""Verification: which laws it forms, and that rejection needs kept atoms alone.

The law of the text itself is checked by `laws_test`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from listcoupling.decoding import filters, tree, verify
from listcoupling.decoding.draft import SpeculativeConfig
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from tests import statistics

VOCAB, KEPT, DRAFTS = 40, 6, 3


def config(replacement=True, vocab_size=VOCAB):
  return SpeculativeConfig(
    drafters=(),
    vocab_size=vocab_size,
    num_drafts=DRAFTS,
    draft_length=1,
    num_nodes=DRAFTS,
    keep_laws=True,
    replacement=replacement,
  )


def laws(same_draft):
  """Sparse target and draft laws that share some of their tokens."""
  rng = np.random.default_rng(2)

  def law():
    tokens = np.sort(rng.choice(12, KEPT, replace=False))
    logits = rng.normal(0, 1.5, KEPT)
    return filters.Law(jnp.float32(logits), jnp.asarray(tokens, jnp.int32))

  target, drafts = law(), [law() for _ in range(DRAFTS)]
  drafts = drafts[:1] * DRAFTS if same_draft else drafts
  return target, jax.tree.map(lambda *leaves: jnp.stack(leaves), *drafts)


def dense(law):
  nothing = jnp.full(VOCAB, -jnp.inf)
  return filters.Law(nothing.at[law.tokens].set(law.logits), None)


def chosen(key, law, drafts, *, accept, replacement, is_dense):
  """Proposals and the verifier's token."""
  streams = jnp.arange(DRAFTS)
  noise = jax.vmap(functools.partial(filters.noise, key))(drafts, streams)
  tokens = jax.vmap(filters.sample)(noise, drafts)
  if not replacement:
    order = jnp.argsort(noise[0] / jax.nn.softmax(drafts.logits[0]))
    tokens = drafts.tokens[0][order[:DRAFTS]]
  live = jnp.array([True, True, False])
  if is_dense:
    law, drafts = dense(law), jax.vmap(dense)(drafts)
  judged = verify._Judged(tokens, drafts, live)
  token = verify._choose_by_rejection(
    key, law, judged, config(replacement), accept=accept
  )
  return tokens, token


CASES = [
  (verify._specinfer, True),
  (verify._specinfer, False),
  (verify._spectr, True),
]


@pytest.mark.parametrize('accept, replacement', CASES)
def test_sparse_decides_as_dense(accept, replacement):
  given = laws(accept is verify._spectr or not replacement)
  draws = dict(accept=accept, replacement=replacement, trials=20_000)
  tokens, sparse = statistics.draw(chosen, *given, **draws, is_dense=False)
  _, full = statistics.draw(chosen, *given, **draws, is_dense=True)
  np.testing.assert_array_equal(sparse, full)
  target = np.asarray(filters.probabilities(given[0], VOCAB))
  statistics.assert_law(sparse, target)
  # The decisions are not trivial: proposals in and outside of the support.
  inside = np.isin(tokens[:, 0], given[0].tokens)
  assert 0.05 < (sparse == tokens[:, 0]).mean() < 0.95
  assert inside.any() and not inside.all()


def test_another_draft_law_is_seen():
  """Negative control: drafts judged by a law they were not drawn from."""
  law, drafts = laws(False)
  wrong = jax.tree.map(lambda leaf: leaf[::-1], drafts)

  def careless(key, law, drafts, wrong):
    noise = jax.vmap(functools.partial(filters.noise, key))(
      drafts, jnp.arange(DRAFTS)
    )
    tokens = jax.vmap(filters.sample)(noise, drafts)
    judged = verify._Judged(tokens, wrong, jnp.ones(DRAFTS, bool))
    return verify._choose_by_rejection(
      key, law, judged, config(), accept=verify._specinfer
    )

  found = statistics.draw(careless, law, drafts, wrong, trials=20_000)
  statistics.assert_not_law(
    found, np.asarray(filters.probabilities(law, VOCAB))
  )


def longest(jaxpr) -> int:
  """Elements of the largest array that a program makes."""
  found = 0
  for equation in jaxpr.eqns:
    for value in equation.outvars:
      found = max(found, int(np.prod(value.aval.shape)))
    for inner in core.jaxprs_in_params(equation.params):
      found = max(found, longest(inner))
  return found


@pytest.mark.parametrize('accept', [verify._specinfer, verify._spectr])
def test_nothing_of_the_vocabulary_is_made(accept):
  law, drafts = laws(False)
  large = config(vocab_size=151_936)

  def choose(key, law, drafts):
    judged = verify._Judged(drafts.tokens[:, 0], drafts, jnp.ones(DRAFTS, bool))
    return verify._choose_by_rejection(key, law, judged, large, accept=accept)

  jaxpr = jax.make_jaxpr(choose)(jax.random.key(0), law, drafts)
  assert longest(jaxpr.jaxpr) < 1000


def judge(name, monkeypatch):
  """A method's verification of rows that go on as `wanted` [B, 3].

  All chains draft 1 and then 2. The function returns tokens per row, and how
  often laws of the rows were formed.
  """
  made, form = [], filters.target_law

  def noted(*args):
    jax.debug.callback(lambda: made.append(None))
    return form(*args)

  monkeypatch.setattr(filters, 'target_law', noted)
  method = METHODS[name]
  width = 1 if method.single_draft else 2
  config = SpeculativeConfig((), 4, width, 2, 2 * width, True, True)
  sampling = filters.sampling_params(GenerateOptions(top_p=0.9))
  zeros = jnp.zeros(2, jnp.int32)

  @jax.jit
  def verified(logits):
    tokens = jnp.broadcast_to(jnp.array([[1], [2]]), (2, 2, width))
    even = filters.Law(jnp.zeros((2, 2, width, 4)), None)
    keys = jax.random.split(jax.random.key(0), 2)
    context = verify.Context(keys, zeros, zeros, None, logits)
    return method.verify(context, tree.chains(tokens, even), config, sampling)

  def walk(*wanted):
    made.clear()
    nodes = np.repeat(wanted, [1, width, width], axis=1)
    only = jax.nn.one_hot(nodes, 4, dtype=bool)
    count = verified(jnp.where(only, 0.0, -jnp.inf)).count
    jax.effects_barrier()
    return count.tolist(), len(made)

  return walk


WALKS = [name for name in METHODS if name not in ('autoregressive', 'block')]


@pytest.mark.parametrize('name', WALKS)
def test_laws_are_formed_only_where_a_row_goes(name, monkeypatch):
  """Under top-p each takes about thirty passes over the vocabulary."""
  walk = judge(name, monkeypatch)
  if name == 'traversal':  # enters all of a path before it judges, once
    assert walk([0, 0, 0], [0, 0, 0]) == ([1, 1], 1 + 2)
    return
  assert walk([0, 0, 0], [0, 0, 0]) == ([1, 1], 1)
  assert walk([1, 0, 0], [0, 0, 0]) == ([2, 1], 2)
  assert walk([0, 0, 0], [1, 2, 3]) == ([1, 3], 3)
