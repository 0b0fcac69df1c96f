"""The best-first tree against exhaustive search in plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from listcoupling import gumbel
from listcoupling.decoding import best_first, calibration, filters, loop, tree
from listcoupling.decoding.drafters import Text
from listcoupling.decoding.generate import prepare
from listcoupling.decoding.options import GenerateOptions
from tests import fakes, floats
from tests.decoding import exact

VOCAB = 5
ROW = (2, 0, 3, 1)  # the text of every row; its last token is the root
ROWS = 6
KEYS = jax.random.split(jax.random.key(7), ROWS)


def propose(models, **changes):
  """The tree of one block after ROW, for each of the keys."""
  options = GenerateOptions(**(dict(max_new_tokens=4) | changes))
  prompts = np.tile(ROW, (ROWS, 1))
  call = prepare(KEYS, models[0], models, prompts, [len(ROW)] * ROWS, options)
  state, _ = call.prefill()
  text = Text(state.tokens, state.lengths - 1)
  found, _ = best_first.propose_tree(
    call.keys,
    call.params.drafters,
    state.draft,
    text,
    ~state.done,
    call.sampler.speculation,
    call.sampling,
  )
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:ROWS], found)


FIT = jax.tree.map(
  lambda leaf: leaf[0],
  calibration.fit(calibration.start(jnp.zeros(1, jnp.int32))),
)
START = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), FIT)


def log_worths(key, model, path, temperature=1.0):
  """Log-worths of all children of a path: the factors of its last token."""
  before, last = (*ROW, *path)[-2:]
  scores = np.asarray(model.params, np.float64)[before, last]
  noise = 0.0
  if temperature:
    place = gumbel.position_key(key, len(ROW) + len(path))
    noise = np.asarray(gumbel.gumbel(place, VOCAB), np.float64)
    scores = scores / temperature
  law = sum(
    np.exp(weight)
    * exact.softmax((a * np.log(exact.softmax(scores)) + noise) / tau)
    for a, tau, weight in zip(*START[:3], strict=True)
  )
  return np.log(law) + np.log(1 - 0.1 / 10)  # the share of allowed tokens


def exhaustive(key, models, *, width, length, count, temperature=1.0):
  """The `count` best of all children of the beam: dict path -> log-worth."""
  worths = {}
  for model in models:
    beam = {(): 0.0}
    for _ in range(length):
      offered = {
        (*path, token): above + own
        for path, above in beam.items()
        for token, own in enumerate(log_worths(key, model, path, temperature))
      }
      for path, worth in offered.items():
        worths[path] = max(worth, worths.get(path, -np.inf))
      best = sorted(offered, key=offered.get)[-width:]
      beam = {path: offered[path] for path in best}
  best = sorted(worths, key=worths.get)[-count:]
  return {path: worths[path] for path in best}


def worth_error(found, models, temperature):
  """Of the log-worths of nodes: of every token's, which is no less than all."""
  noise = gumbel.gumbel(gumbel.position_key(KEYS[0], len(ROW)), VOCAB)
  noise = noise * float(temperature > 0)
  least = np.min(found.log_worths, where=found.tokens >= 0, initial=0)
  rows = jnp.concatenate([model.params.reshape(-1, VOCAB) for model in models])

  def worths(rows):
    laws = jax.nn.log_softmax(rows / (temperature or 1.0))
    chances = jax.vmap(
      lambda law: calibration.chances(FIT, filters.Law(law, None), noise)
    )
    return jnp.log(chances(laws))

  kept = worths(rows) >= least
  of_one = floats.apart(lambda rows: jnp.where(kept, worths(rows), 0.0), rows)
  return found.depths.max() * of_one


def paths_of(found, row):
  """Dict path -> log-worth of the nodes of a tree, by their parents."""
  paths, worths = {0: ()}, {}
  for n in range(found.tokens.shape[1]):
    if found.tokens[row, n] < 0:
      assert found.log_worths[row, n] == -np.inf
      continue
    path = (*paths[found.parents[row, n]], int(found.tokens[row, n]))
    assert found.depths[row, n] == len(path)
    assert path not in worths  # no path twice
    paths[n + 1], worths[path] = path, found.log_worths[row, n]
  return worths


@pytest.mark.parametrize(
  'count,width,length,nodes,temperature',
  [(1, 2, 3, 8, 1.0), (1, 3, 4, 6, 0.5), (1, 2, 3, 7, 0.0), (2, 4, 3, 9, 1.3)],
)
def test_nodes_are_the_best_of_the_exhaustive_search(
  count, width, length, nodes, temperature
):
  """One or two drafters, warm and greedy; W = K / D slots each."""
  models = fakes.random_pair(VOCAB, 1.0, 0, count)[1]
  found = propose(
    models,
    num_drafts=width,
    draft_length=length,
    num_nodes=nodes,
    temperature=temperature,
  )
  error = worth_error(found, models, temperature)
  for row, key in enumerate(KEYS):
    wanted = exhaustive(
      key,
      models,
      width=width // count,
      length=length,
      count=nodes,
      temperature=temperature,
    )
    worths = paths_of(found, row)
    assert worths.keys() == wanted.keys()
    for path, worth in worths.items():
      np.testing.assert_allclose(worth, wanted[path], rtol=0, atol=error)


def test_trees_are_not_all_alike():
  """Else the search above might have met one shape alone."""
  found = propose(
    fakes.random_pair(VOCAB, 1.0)[1],
    num_drafts=2,
    draft_length=3,
    num_nodes=8,
  )
  assert len({tuple(row) for row in found.parents.tolist()}) > 2


def test_equal_worths_take_the_lower_depth_first():
  """A certain drafter: children are worth what their parents are, but 1/100.

  Without that hundredth, and with it, the nodes are one chain.
  """
  certain = np.where(np.arange(VOCAB) == 2, 0.0, -np.inf)
  model = fakes.table_model(certain + np.zeros((VOCAB,) * 3))
  found = propose([model], num_drafts=3, draft_length=4, num_nodes=6)
  np.testing.assert_array_equal(found.tokens, [[2, 2, 2, 2, -1, -1]] * ROWS)
  np.testing.assert_array_equal(found.parents[:, :4], [[0, 1, 2, 3]] * ROWS)


def test_selection_is_closed_under_parents_on_ties():
  pool = best_first._Candidates(
    jnp.array([[7, 8, 5, 6, 4, 3]]),
    jnp.array([[-1, -1, 0, 0, 2, 2]]),  # two per depth
    jnp.array([[-1.0, -np.inf, -1.0, -2.0, -1.0, -1.0]]),
  )
  for count, wanted in ((1, [7]), (2, [7, 5]), (3, [7, 5, 4])):
    found = best_first._select(pool, count, 2)
    assert found.tokens.tolist() == [wanted]
    assert found.parents.tolist() == [list(range(count))]
  found = best_first._select(pool, 6, 2)  # one more than there are
  assert found.tokens.tolist() == [[7, 5, 6, 4, 3, -1]]
  assert found.parents.tolist() == [[0, 1, 1, 2, 2, 0]]


def test_a_path_of_two_drafters_is_one_node():
  """The same drafter twice gives its own tree, of half the beam."""
  (model,) = fakes.random_pair(VOCAB, 1.0)[1]
  shape = dict(draft_length=3, num_nodes=7)
  once = propose([model], num_drafts=2, **shape)
  twice = propose([model, model], num_drafts=4, **shape)
  error = worth_error(once, [model], 1.0)  # they are two programs
  for row in range(ROWS):
    wanted, worths = paths_of(once, row), paths_of(twice, row)
    assert worths.keys() == wanted.keys()
    for path, worth in worths.items():
      assert abs(worth - wanted[path]) <= error
    assert np.ptp([*worths.values()]) > error  # control: not all are alike


def test_each_drafter_is_trusted_for_what_it_said_itself():
  """The target itself beside one that knows nothing: a pair (a, tau) each."""
  target = fakes.random_pair(VOCAB, 1.0)[0]
  blind = fakes.table_model(3 * np.roll(np.asarray(target.params), 2, axis=-1))
  prompts, lengths = np.tile(ROW, (ROWS, 1)), [len(ROW)] * ROWS
  options = GenerateOptions(
    num_drafts=2, draft_length=2, num_nodes=4, max_new_tokens=48
  )
  call = prepare(KEYS, target, [target, blind], prompts, lengths, options)
  run = jax.jit(functools.partial(loop.run, sampler=call.sampler))
  state, _ = run(*call.arguments, *call.prefill())
  for wanted, learned in zip((True, False), state.draft.calibrations):
    fit = calibration.fit(learned)
    exact_and_sure = (fit.scales[:, 0] == 1) & (fit.temperatures[:, 0] < 0.2)
    assert (exact_and_sure[:ROWS] == wanted).all()


def test_drafting_ends_where_a_depth_is_not_worth_its_cost():
  """By hand: the worth of the beam against the rate of the text so far."""
  _, (drafter,) = fakes.random_pair(VOCAB, 0.7, 4)
  shape = dict(num_drafts=2, draft_length=5, num_nodes=20)

  def depth(cost):
    found = propose([drafter], draft_cost=cost, **shape)
    return np.max(found.depths, where=found.tokens >= 0, initial=0)

  length = 1
  while length < 5:
    best = [
      exhaustive(key, [drafter], width=2, length=length, count=20)
      for key in KEYS
    ]
    tokens = sum(1 + np.exp(list(each.values())).sum() for each in best)
    beams = [
      sorted(worth for path, worth in each.items() if len(path) == length)[-2:]
      for each in best
    ]
    gained = np.exp(beams).sum()
    if gained * (1 + 0.55 * length) < 0.55 * tokens:
      break
    length += 1
  assert 1 < length < 5
  assert depth(0.55) == length
  assert depth(100.0) == 1


def test_filters_and_broken_drafters_leave_nodes_empty():
  table = np.zeros((VOCAB,) * 3)
  shape = dict(num_drafts=3, draft_length=1, num_nodes=4, top_k=2)
  good = propose([fakes.table_model(table)], **shape)
  np.testing.assert_array_equal(good.tokens < 0, [[0, 0, 1, 1]] * ROWS)
  table[3, 1] = np.nan  # after the root of ROW
  bad = propose([fakes.table_model(table)], **shape)
  assert (bad.tokens == -1).all()


def test_the_first_node_is_the_text_where_the_target_drafts_for_itself():
  """With the target as its own drafter the best path is the text itself."""
  target = fakes.random_pair(VOCAB, 1.0)[0]
  found = propose([target], num_drafts=3, draft_length=3, num_nodes=9)
  ancestors = np.asarray(tree.ancestors(jnp.asarray(found.parents), 3))
  for row, key in enumerate(KEYS):
    path, alive = (), {0}
    for _ in range(3):
      path += (int(np.argmax(log_worths(key, target, path))),)
      alive = {
        n + 1
        for n in range(9)
        if found.tokens[row, n] == path[-1] and found.parents[row, n] in alive
      }
    (last,) = alive
    assert ancestors[row, last].sum() == 4
