"""Costs on paper: what grows with what, and what binds a program."""

import math
import types

import jax
import pytest

from listcoupling.models import cost, transformer
from listcoupling.models.transformer_config import TransformerConfig

CONFIG = TransformerConfig(100, 16, 3, 4, 2, 4, 32, tie_embeddings=False)


def test_weights_are_those_of_the_decoder():
  shapes = jax.eval_shape(
    lambda: transformer.init_params(jax.random.key(0), CONFIG)
  )
  shapes.pop('embed')  # looked up
  matrices = [x for x in jax.tree.leaves(shapes) if x.ndim > 1]
  assert cost.weights(CONFIG) == sum(math.prod(x.shape) for x in matrices)


def test_weights_are_read_once_and_multiplied_per_token():
  one, many = (cost.forward(CONFIG, 1, n, 0) for n in (1, 9))
  weights = 2 * cost.weights(CONFIG)
  per_node = 2 * 2 * 2 * 4 * 3 + 2 * 4 * 100  # keys and values, logits
  assert one.bytes == weights + per_node
  assert many.bytes == weights + 9 * per_node
  assert many.operations > 9 * one.operations > 9 * weights


def test_devices_share_all_but_sums_and_key_heads():
  whole, half = (cost.forward(CONFIG, 2, 5, 7, devices=d) for d in (1, 2))
  assert (half.operations, half.bytes) == (
    whole.operations / 2,
    whole.bytes / 2,
  )
  assert whole.sent == whole.exchanges == 0
  assert half.exchanges == 7 and half.sent == 7 * 2 * 10 * 16
  four = cost.forward(CONFIG, 2, 5, 7, devices=4)
  assert four.bytes > whole.bytes / 4  # each of two key heads stored twice


def test_what_binds_a_part_sets_its_time():
  machine = cost.Machine('x', 1, 10.0, 10.0, 2.0, 1.0, 0.5, reached=1.0)
  parts = [cost.Cost(100.0, 2.0), cost.Cost(10.0, 60.0, exchanges=2)]
  assert machine.seconds(parts) == 10 + 30 + 1
  assert machine.seconds(parts[0]) == 10  # one is as good as a list of one
  several = machine._replace(devices=8)
  part = cost.Cost(0.0, 0.0, sent=8.0, devices=4)  # of the eight
  assert several.seconds([part]) == 2 * 8 * 3 / 4
  with pytest.raises(ValueError, match='at most the 1 devices of x, got 4'):
    machine.seconds([part])


def test_a_model_counts_as_its_config():
  model = types.SimpleNamespace(config=CONFIG)
  row = dict(batch=2, used=7, tree=(4, 2, 3), devices=2, number=4)
  parts = cost.block(CONFIG, CONFIG, **row)
  assert cost.block(model, model, **row) == parts
  assert {part.devices for part in parts} == {2}
  assert parts[0] == cost.forward(model, 2, 4, 7, devices=2, number=4)


@pytest.mark.parametrize(
  ('wrong', 'words'),
  [
    (dict(target='llama'), "target must be a TransformerConfig.*got 'llama'"),
    (dict(drafter=()), r'drafter must be a TransformerConfig.*got \(\)'),
    (dict(batch=-1), 'batch must be at least 1, got -1'),
    (dict(used=-1), 'used must be at least 0, got -1'),
    (dict(devices=0), 'devices must be at least 1, got 0'),
    (dict(number=0), 'number must be positive and finite, got 0'),
    (dict(written=0), 'written must be positive and finite, got 0'),
    (dict(tree=(4, 8, 4)), r'N of at least K, got \(4, 8, 4\)'),
    (dict(tree=(0, 1, 0)), r'L of tree=\(N, K, L\) must be at least 1'),
    (dict(tree=4), r'tree must be \(N, K, L\), got 4'),
  ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong, words):
  right = dict(target=CONFIG, drafter=CONFIG, batch=1, used=0, tree=(4, 2, 3))
  assert cost.block(**right)
  with pytest.raises(ValueError, match=words):
    cost.block(**right | wrong)


def test_a_block_without_a_drafter_has_no_tree_unless_given():
  plain, races = cost.block(CONFIG, None, 1, 5)
  assert plain == cost.forward(CONFIG, 1, 1, 5) and races.words == 100
  assert cost.block(CONFIG, None, 1, 5, tree=(4, 2, 3))[0].bytes > plain.bytes
  with pytest.raises(TypeError, match=r"block\(\) got .*'device'"):
    cost.block(CONFIG, None, 1, 5, device=2)
