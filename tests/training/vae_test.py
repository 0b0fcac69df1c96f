"""Training of the image codec: learning, resuming, the estimator's target."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import vae_digits
from listcoupling.training import run_folder, vae
from tests import statistics


def _config(**changes):
  config = vae_digits.get_config().train
  config.model.hidden_size = 16
  config.model.side_features = 8
  config.model.estimator_size = 8
  config.steps = 60
  config.steps_per_call = 20
  config.num_negatives = 4
  config.learning_rate = 5e-3
  config.update(changes)
  return config


def test_training_learns_and_resumes_bit_for_bit(tmp_path, monkeypatch):
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  _, params = vae.train(_config(), whole)
  history = json.loads((whole / 'history.json').read_text())
  assert [row['step'] for row in history] == [20, 40, 60]
  assert history[-1]['mse'] < 0.9 * history[0]['mse']
  assert history[-1]['estimator_loss'] < history[0]['estimator_loss']
  (events,) = (whole / 'tensorboard').iterdir()
  assert b'reconstructions' in events.read_bytes()

  write, calls = run_folder.write_json, []

  def power_cut(path, value):
    write(path, value)
    calls.append(path.name)
    if calls.count('history.json') == 2:
      raise KeyboardInterrupt

  monkeypatch.setattr(run_folder, 'write_json', power_cut)
  with pytest.raises(KeyboardInterrupt):
    vae.train(_config(), stopped)
  monkeypatch.undo()
  _, resumed = vae.train(_config(), stopped)
  jax.tree.map(np.testing.assert_array_equal, params, resumed)
  again = json.loads((stopped / 'history.json').read_text())
  assert again == history
  with pytest.raises(ValueError, match='beta'):
    vae.train(_config(beta=0.7), stopped)


@pytest.mark.parametrize('kind', vae.ESTIMATOR_LOSSES)
def test_estimator_finds_the_density_ratio(kind):
  """W ~ N(t, 1/4) and t = +-1: the log odds are a known function of w."""

  def logits_fn(params, latents, side):  # exact family: quadratic in (w, t)
    w, t = latents[..., 0], side[:, 0, 0][:, None]
    features = jnp.stack([w**0, w, w**2, t * w, jnp.abs(w)], -1)
    return features @ params

  def loss(params, key):
    side_key, noise_key, loss_key = jax.random.split(key, 3)
    t = jax.random.rademacher(side_key, (256, 1)).astype(jnp.float32)
    w = t + 0.5 * jax.random.normal(noise_key, (256, 1))
    return vae.estimator_loss(
      lambda latents, side: logits_fn(params, latents, side),
      loss_key, w, t[:, :, None], kind, 16,
    )  # fmt: skip

  optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 1500))

  def step(carry, key):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params, key), state)
    return (optax.apply_updates(params, updates), state), None

  start = jnp.zeros(5)
  (params, _), _ = jax.jit(lambda: jax.lax.scan(
    step, (start, optimizer.init(start)),
    jax.random.split(jax.random.key(3), 1500),
  ))()  # fmt: skip
  if kind == 'contrastive':  # log N(w; t, 1/4) / N(w; 0, 1) + constant
    np.testing.assert_allclose(params[1:4], [0, -1.5, 4], atol=0.5)
  else:  # against the marginal of W: antisymmetric in t, no w^2 of the prior
    np.testing.assert_allclose(params[3], 4, atol=0.5)
    assert abs(params[2] - -1.5) > 0.8


def test_in_batch_loss_ignores_what_depends_on_the_side_alone():
  latent, side = jax.random.normal(jax.random.key(0), (2, 6, 1))
  side = side[:, None]  # [B, 1, 1]

  def loss(offset):
    def logits_fn(latents, side):
      return latents[..., 0] * side[:, 0] + offset * side[:, 0] ** 2

    return float(
      vae.estimator_loss(
        logits_fn, jax.random.key(1), latent, side, 'in_batch', 1
      )
    )

  scores = np.asarray(latent[:, 0] * side[:, 0])  # [B sides, B latents]
  expected = np.mean(np.log(np.exp(scores).sum(1)) - np.diagonal(scores))
  assert loss(0.0) == pytest.approx(expected, rel=1e-5)
  assert loss(5.0) == pytest.approx(expected, rel=1e-4)


def test_halves_by_use():
  plain = vae.load_halves(_config())
  held = vae.load_halves(_config(num_held_out=100, flip=True))
  assert len(held['select'].right) == 100
  np.testing.assert_array_equal(
    held['select'].right, plain['train'].right[-100:]
  )
  count = len(plain['train'].right) - 100
  assert len(held['train'].right) == 2 * count
  np.testing.assert_array_equal(
    held['train'].right[:count], plain['train'].right[:count]
  )
  np.testing.assert_array_equal(
    held['train'].right[count:], plain['train'].left[:count, :, ::-1]
  )
  with pytest.raises(ValueError, match='num_held_out'):
    vae.load_halves(_config(num_held_out=1437))


def test_negatives_come_from_the_prior():
  seen = []

  def logits_fn(latents, side):
    seen.append(latents)
    return jnp.zeros(latents.shape[:2])

  latent = 100 + jnp.zeros((2, 4))
  loss = vae.estimator_loss(
    logits_fn, jax.random.key(0), latent, jnp.zeros((2, 3, 3)), 'contrastive',
    5000,
  )  # fmt: skip
  assert float(loss) == pytest.approx(np.log(5001), rel=1e-5)
  pool = np.asarray(seen[0])
  np.testing.assert_array_equal(pool[:, 0], latent)
  statistics.assert_mean(pool[0, 1:], 0)
  statistics.assert_mean(pool[0, 1:] ** 2, 1)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(estimator_loss='hinge'), 'hinge'),
    (dict(steps=0), 'steps'),
    (dict(beta=0.0), 'beta'),
    (dict(dataset='cifar'), 'cifar'),
    (dict(model=dict(source_shape=(28, 14))), 'source_shape'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    vae.train(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
