"""The large configs: their size by abstract evaluation, two steps when cut."""

import dataclasses

import jax
import numpy as np
from scipy import special

from configs import lm_gpu_drafter, lm_gpu_target
from listcoupling.models import transformer
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import inputs, language_model, losses
from tests.training import tiny_text


def abstract_params(config):
  model_config = TransformerConfig(**config.model)
  return model_config, jax.eval_shape(
    lambda key: transformer.init_params(key, model_config), jax.random.key(0)
  )


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_full_size_step_traces():
  target, drafter = lm_gpu_target.get_config(), lm_gpu_drafter.get_config()
  teacher_config, teacher = abstract_params(target)
  student_config, student = abstract_params(drafter)
  assert count(teacher) >= 50e6
  assert 3e6 < count(student) < 10e6
  train, _ = language_model.make_steps(drafter, student_config, teacher_config)
  optimizer = language_model.make_optimizer(drafter)
  state = language_model.TrainState(
    student, jax.eval_shape(optimizer.init, student)
  )
  tokens = jax.ShapeDtypeStruct((10**6,), np.int32)
  after, metrics = jax.eval_shape(
    train, state, tokens, jax.random.key(0), 0, teacher
  )
  assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(
    lambda x: x.shape, state
  )
  assert metrics['overlap'].shape == ()
  assert {leaf.dtype.name for leaf in jax.tree.leaves(after.params)} == {
    'float32'
  }


def _check_held_out(config, result, folder):
  """The loss is that of a twin in float32, as far as logits are its logits.

  A logit that is off by d moves -log softmax by at most 2 d.
  """
  texts = inputs.load_texts(config, folder / 'run', None)
  windows = losses.even_windows(texts.held_out, config)
  tokens, labels = windows[..., :-1], windows[..., 1:, None]
  tokens, labels = (x.reshape(-1, *x.shape[2:]) for x in (tokens, labels))
  models = (
    result.model.config,
    dataclasses.replace(result.model.config, dtype='float32'),
  )
  rounded, exact = (
    np.asarray(transformer.causal_logits(x, result.model.params, tokens))
    for x in models
  )
  limit = 2 * np.abs(rounded - exact).max()
  found = result.record['held_out']['cross_entropy']

  def loss(logits):
    law = special.log_softmax(logits.astype(np.float64), -1)
    return -np.take_along_axis(law, labels, -1).mean()

  assert abs(found - loss(exact)) < limit
  assert abs(found - loss(exact[:, ::-1])) > limit  # control: another order


def test_two_steps_at_a_reduced_size(tmp_path):
  config = lm_gpu_target.get_config()
  config.update(
    data=(str(tiny_text.write_text(tmp_path / 'text.txt')),),
    num_steps=2,
    warmup_steps=1,
    batch_size=2,
    sequence_length=16,
    eval_windows=2,
  )
  config.model.update(
    vocab_size=280,
    num_layers=2,
    hidden_size=32,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    intermediate_size=48,
  )
  assert config.model.dtype == 'bfloat16'
  result = language_model.train_and_evaluate(config, tmp_path / 'run')
  assert result.record['held_out']['step'] == 2
  _check_held_out(config, result, tmp_path)
