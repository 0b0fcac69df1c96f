"""Training of the image codec: learning, resuming, the estimator's target."""

import functools
import json
import math
import shutil
import signal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy import stats

from configs import vae_digits
from listcoupling import files, gumbel
from listcoupling.data import side_information
from listcoupling.models import vae as models
from listcoupling.training import vae
from tests import floats, statistics


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


def _squared_errors(params, config) -> np.ndarray:
  """[R] of the test images, each from the mean of its latent."""
  networks = models.networks(models.VAEConfig(**config.model))
  left, right = vae.load_halves(config)['test']
  sides = side_information.draw_sides(
    gumbel.seed_key(1), left, right, 1, networks.config.side_shape
  )[:, 0]
  image = networks.decode(params, networks.encode(params, right)[0], sides)
  return np.mean((np.asarray(image) - right) ** 2, (1, 2))


def test_training_learns_and_resumes_bit_for_bit(tmp_path, monkeypatch):
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  sizes, params = vae.train(_config(), whole)
  history = json.loads((whole / 'history.json').read_text())
  assert [row['step'] for row in history] == [20, 40, 60]
  start = vae.init_state(gumbel.seed_key(0), _config(), sizes).params
  gain = _squared_errors(start, _config()) - _squared_errors(params, _config())
  assert gain.mean() > statistics.SIGMAS * gain.std() / math.sqrt(len(gain))
  assert history[-1]['mse'] < history[-1]['side_only_mse']  # latents tell
  assert history[-1]['estimator_loss'] < history[0]['estimator_loss']
  (events,) = (whole / 'tensorboard').iterdir()
  assert b'reconstructions' in events.read_bytes()

  write, calls = files.write_json, []

  def power_cut(path, value):
    write(path, value)
    calls.append(path.name)
    if calls.count('history.json') == 2:
      raise KeyboardInterrupt

  monkeypatch.setattr(files, 'write_json', power_cut)
  with pytest.raises(KeyboardInterrupt):
    vae.train(_config(), stopped)
  monkeypatch.undo()
  _, resumed = vae.train(_config(), stopped)
  jax.tree.map(np.testing.assert_array_equal, params, resumed)
  again = json.loads((stopped / 'history.json').read_text())
  assert again == history
  with pytest.raises(ValueError, match='beta'):
    vae.train(_config(beta=0.7), stopped)


def test_a_stop_before_the_first_row_is_no_start_over(tmp_path, monkeypatch):
  monkeypatch.setattr(vae, '_CALL', 7)
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  _, params = vae.train(_config(), whole)
  make = vae.make_train_steps

  def make_stopped(*arguments):
    steps = make(*arguments)

    def one_call(*arguments):
      signal.raise_signal(signal.SIGINT)
      return steps(*arguments)

    return one_call

  for done in (7, 14):
    monkeypatch.setattr(vae, 'make_train_steps', make_stopped)
    with pytest.raises(KeyboardInterrupt):
      vae.train(_config(), stopped)
    names = [p.name for p in (stopped / 'checkpoints').iterdir()]
    assert names == [str(done)] and not (stopped / models.FILE).exists()
  monkeypatch.setattr(vae, 'make_train_steps', make)
  _, resumed = vae.train(_config(), stopped)
  jax.tree.map(np.testing.assert_array_equal, params, resumed)
  assert files.read_json(stopped / 'history.json', list) == files.read_json(
    whole / 'history.json', list
  )


_SHORT = dict(steps=5, steps_per_call=3)  # the last call is shorter


@pytest.fixture(scope='module')
def short(tmp_path_factory):
  """A finished run of `_SHORT`, and what it returned."""
  folder = tmp_path_factory.mktemp('short')
  return folder, *vae.train(_config(**_SHORT), folder)


def test_parameters_stand_apart_from_the_training(short):
  folder, sizes, params = short
  read, known, about = models.load(folder / models.FILE)
  jax.tree.map(np.testing.assert_array_equal, read, params)
  assert known == sizes and about['beta'] == _config().beta


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('train_config.json', '', 'train_config.json is damaged'),
    ('train_config.json', '{"beta": 0.3', 'train_config.json is damaged'),
    ('history.json', '[{"step"', 'history.json is damaged'),
    ('history.json', '[{"step": 3}]', "no number 'mse'"),
  ],
)
def test_damaged_files_of_a_run_are_named(short, tmp_path, name, text, message):
  folder = tmp_path / 'copy'
  shutil.copytree(short[0], folder)
  (folder / models.FILE).unlink()  # as if the end had not been reached
  (folder / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    vae.train(_config(**_SHORT), folder)


def test_a_finished_run_is_only_read(short):
  folder, _, params = short
  assert [p.name for p in (folder / 'checkpoints').iterdir()] == ['5']
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
  _, again = vae.train(_config(**_SHORT), folder)
  jax.tree.map(np.testing.assert_array_equal, params, again)
  with pytest.raises(ValueError, match='other settings of steps'):
    vae.train(_config(steps=4, steps_per_call=3), folder)
  assert {p: p.stat().st_mtime_ns for p in folder.rglob('*')} == before


# W ~ N(t, 1/4) and t = +-1: the optimum of each loss as a function of (w, t).
_LOG_ODDS = {
  'contrastive': lambda w, t: 4 * t * w - 1.5 * w**2,  # against N(0, 1)
  'bce': lambda w, t: 4 * t * w - jnp.logaddexp(4 * w, -4 * w) + math.log(2),
}


@functools.cache
def _slopes(kind, optimum):
  """[4000, 4] of the loss of new batches at an optimum, in four directions."""

  def loss(step, key):
    side_key, noise_key, loss_key = jax.random.split(key, 3)
    side = jax.random.rademacher(side_key, (64, 1)).astype(jnp.float32)
    latent = side + 0.5 * jax.random.normal(noise_key, (64, 1))

    def logits(latents, sides):
      w, t = latents[..., 0], sides[:, 0, 0][:, None]
      features = jnp.stack([w, w**2, t * w, jnp.cos(w)], -1)
      return _LOG_ODDS[optimum](w, t) + features @ step

    return vae.estimator_loss(
      logits, loss_key, latent, side[:, :, None], kind, 4
    )

  keys = jax.random.split(jax.random.key(3), 4000)
  slopes = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(jnp.zeros(4), keys)
  return np.asarray(slopes, np.float64)


@pytest.mark.parametrize('kind', vae.ESTIMATOR_LOSSES)
def test_estimator_finds_the_density_ratio(kind):
  """No direction leads down from the known log odds: the loss is convex."""
  for slope in _slopes(kind, kind).T:
    statistics.assert_mean(slope, 0)
  (other,) = set(vae.ESTIMATOR_LOSSES) - {kind}
  with pytest.raises(AssertionError, match='standard errors'):  # control
    for slope in _slopes(kind, other).T:
      statistics.assert_mean(slope, 0)


def _loss_parts(**changes):
  """`loss_fn` on three images: config, arguments, loss, metrics."""
  config = _config(**changes)
  model = models.VAEConfig(**config.model)
  params = models.init_params(jax.random.key(1), model)
  left, right = jax.random.uniform(jax.random.key(2), (2, 3, 8, 4))
  found = jax.jit(vae.loss_fn, static_argnums=(4, 5))(
    params, jax.random.key(5), left, right,
    ml_collections.FrozenConfigDict(config), model,
  )  # fmt: skip
  return config, model, (params, left, right), found


def test_loss_by_hand():
  config, model, (params, left, right), (loss, metrics) = _loss_parts(beta=0.7)
  crop_key, latent_key, _, negative_key = jax.random.split(jax.random.key(5), 4)
  nets = models.networks(model)
  side = jnp.stack([
    side_information.random_crop(k, x, (3, 3))
    for k, x in zip(jax.random.split(crop_key, 3), left, strict=True)
  ])  # fmt: skip
  mean, log_std = (np.asarray(x) for x in nets.encode(params, right))
  noise = np.asarray(jax.random.normal(latent_key, mean.shape))
  latent = mean + np.exp(log_std) * noise
  answers = nets.decode(params, latent, side), nets.side_only(params, side)
  squares, alone = (((x - right) ** 2).sum((1, 2)).mean() for x in answers)
  law = stats.norm(mean, np.exp(log_std))
  # KL = - entropy of q + cross-entropy against the prior.
  kl = (-law.entropy() + 0.5 * (np.log(2 * np.pi) + law.moment(2))).sum(1)
  ratio = vae.estimator_loss(
    lambda *x: nets.estimate(params, *x), negative_key, jnp.asarray(latent),
    side, config.estimator_loss, config.num_negatives,
  )  # fmt: skip
  values = {
    'loss': squares + 0.7 * kl.mean() + ratio + alone,
    'mse': squares / 32,
    'kl_bits': kl.mean() / np.log(2),
    'estimator_loss': ratio,
    'side_only_mse': alone / 32,
  }
  # Of the divergence 1 is subtracted.
  sizes = [1 if k == 'kl_bits' else float(x) for k, x in values.items()]
  shape = config.num_negatives, mean.shape[1]
  negatives = jnp.stack(3 * [jax.random.normal(negative_key, shape)])

  def parts(params):
    """The same of float32, networks and all: how much it rounds."""
    mean, log_std = nets.encode(params, right)
    latent = mean + jnp.exp(log_std) * noise
    answers = nets.decode(params, latent, side), nets.side_only(params, side)
    squares, alone = (((x - right) ** 2).sum((1, 2)).mean() for x in answers)
    kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
    kl = kl.sum(1).mean()
    pool = jnp.concatenate([latent[:, None], negatives], 1)
    ratio = -jax.nn.log_softmax(nets.estimate(params, pool, side))[:, 0].mean()
    whole = squares + 0.7 * kl + ratio + alone
    values = whole, squares / 32, kl / np.log(2), ratio, alone / 32
    return jnp.stack(values) / np.float32(sizes)

  error = floats.apart(parts, params)
  for name, value in values.items():
    found = loss if name == 'loss' else metrics[name]
    size = sizes[list(values).index(name)]
    assert found == pytest.approx(float(value), rel=0, abs=error * size), name


def test_dropout_is_on_while_training():
  found = []
  for rate in (0.0, 0.5):
    model = dict(_config().model, dropout_rate=rate)
    found.append(_loss_parts(model=model)[3][1])
  assert found[0]['mse'] != found[1]['mse']
  assert found[0]['kl_bits'] == found[1]['kl_bits']


def test_the_estimator_does_not_bend_the_code():
  """The latent is a constant to it: no gradients but its own, exactly."""
  for kind in ('bce', 'contrastive'):
    config = _config(estimator_loss=kind)
    model = models.VAEConfig(**config.model)
    params = models.init_params(jax.random.key(1), model)
    left, right = jax.random.uniform(jax.random.key(2), (2, 3, 8, 4))
    slopes = jax.jit(jax.jacrev(
      lambda p, config=config, model=model, left=left, right=right: vae.loss_fn(
        p, jax.random.key(5), left, right, config, model
      )[1]
    ))(params)  # fmt: skip
    moved = {
      part: {
        k for k, v in slope.items() if any(map(np.any, jax.tree.leaves(v)))
      }
      for part, slope in slopes.items()
    }
    assert moved['estimator_loss'] == {'estimator'}
    assert 'encoder' in moved['mse'] and 'estimator' not in moved['mse']


def test_every_step_draws_anew_and_moves_as_adam():
  config = _config(learning_rate=1e-12)
  model = models.VAEConfig(**config.model)
  state = vae.init_state(jax.random.key(1), config, model)
  left, right = jax.random.uniform(jax.random.key(2), (2, 9, 8, 4))
  steps = vae.make_train_steps(config, model)
  found = []
  for i in (0, 1):
    own = jax.tree.map(jnp.copy, state)  # its memory is taken
    own = own._replace(step=jnp.int32(i))
    found.append(steps(own, jax.random.key(0), left, right, 1))
  assert found[0].totals['mse'] != found[1].totals['mse']
  optimizer = vae._optimizer(_config(learning_rate=0.1, steps=10**6))
  moment = optimizer.init(jnp.ones(()))
  for gradient in (1.0, 0.0):
    with jax.numpy_dtype_promotion('standard'):  # optax mixes types
      update, moment = optimizer.update(jnp.float32(gradient), moment)
  # By hand, betas .9 and .99 (the paper's), bias corrected.
  wanted = -0.1 * (0.09 / 0.19) / np.sqrt(0.0099 / 0.0199)
  # 1 - .9^2 and the root of 1 - .99^2 are as good as the powers are.
  error = statistics.rounding(1, 1 / 0.19 + 0.5 / 0.0199)
  assert float(update) == pytest.approx(wanted, rel=error)


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
  wanted = np.log(5001)  # of an exact sum
  error = statistics.rounding(1, wanted)
  assert float(loss) == pytest.approx(wanted, rel=0, abs=error)
  pool = np.asarray(seen[0])
  np.testing.assert_array_equal(pool[:, 0], latent)
  statistics.assert_mean(pool[0, 1:], 0)
  statistics.assert_mean(pool[0, 1:] ** 2, 1)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(estimator_loss='in_batch'), 'in_batch'),
    (dict(steps=0), 'steps'),
    (dict(beta=0.0), 'beta'),
    (dict(dataset='cifar'), 'cifar'),
    (dict(model=dict(source_shape=(28, 14))), 'source_shape'),
    (dict(model=dict(hiden_size=3)), 'hiden_size'),
  ],
)
def test_bad_settings_are_refused_before_writing(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    vae.train(_config(**change), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
