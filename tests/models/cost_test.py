"""Costs on paper: what grows with what, and what binds a program."""

import math

import jax

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
  shared = machine._replace(devices=4)
  assert shared.seconds([cost.Cost(0.0, 0.0, sent=8.0)]) == 2 * 8 * 3 / 4
