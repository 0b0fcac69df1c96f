"""Training on a small text: it learns, resumes to the same bits, distils."""

import contextlib
import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from listcoupling import interrupts
from listcoupling.models import pretrained
from listcoupling.training import language_model, losses
from tests import statistics
from tests.training import tiny_text


@pytest.fixture(scope='module', autouse=True)
def compile_once():
  """Runs with equal settings share their compiled steps."""
  kept, make_steps = {}, language_model.make_steps

  def make_or_find(config, *models):
    name = (config.to_json(), models)
    if name not in kept:
      kept[name] = make_steps(config, *models)
    return kept[name]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(language_model, 'make_steps', make_or_find)
    yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config, workdir, result) of one finished run."""
  folder = tmp_path_factory.mktemp('lm')
  config = tiny_text.small_config(tiny_text.write_text(folder / 'text.txt'))
  result = language_model.train_and_evaluate(config, folder / 'run')
  pretrained.save_pretrained(result.model, folder / 'model')
  return config, folder / 'run', result


def test_loss_falls_and_is_recorded(run):
  _, workdir, result = run
  history = result.record['history']
  assert [row['step'] for row in history] == [15, 30]
  values = [row['cross_entropy'] for row in history]
  assert values[1] < values[0] < np.log(280)
  record = json.loads((workdir / 'record.json').read_text())
  assert record['held_out'] == record['best'] == history[-1]
  assert record['train']['cross_entropy'] < np.log(280)
  assert record['text']['documents'] == 1
  assert len(record['text']['sha256']) == 64
  assert record['parameters'] == sum(
    leaf.size for leaf in jax.tree.leaves(result.model.params)
  )
  assert list((workdir / 'events').glob('events.*'))


def test_weights_are_those_of_the_last_step(run):
  config, _, result = run
  _, evaluate = language_model.make_steps(config, result.model.config, None)
  tokens = np.concatenate([np.arange(200) % 280] * 2)
  windows = losses.even_windows(tokens, config)
  fresh = losses.mean_metrics(
    lambda batch: evaluate(result.model.params, None, batch), windows
  )
  model = pretrained.load_pretrained(run[1].parent / 'model')
  loaded = losses.mean_metrics(
    lambda batch: evaluate(model.params, None, batch), windows
  )
  assert fresh == loaded


class Stop(Exception):
  """Somebody ends the run."""


def test_stopped_run_resumes_to_the_same_weights(run, tmp_path, monkeypatch):
  config, _, result = run
  with monkeypatch.context() as patch:
    save = language_model.run_folder.save

    def stop_at_20(manager, step, state):
      save(manager, step, state)
      if step == 20:
        manager.wait_until_finished()
        raise Stop

    patch.setattr(language_model.run_folder, 'save', stop_at_20)
    with pytest.raises(Stop):
      language_model.train_and_evaluate(config, tmp_path)
  assert not (tmp_path / 'record.json').exists()
  again = language_model.train_and_evaluate(config, tmp_path)
  same = jax.tree.map(
    lambda a, b: np.array_equal(a, b), again.model.params, result.model.params
  )
  assert jax.tree.all(same)
  losses_of = [
    [(row['step'], row['cross_entropy']) for row in record['history']]
    for record in (again.record, result.record)
  ]
  assert losses_of[0] == losses_of[1]
  fewer = config.copy_and_resolve_references()
  fewer.num_steps = 20
  kept = (tmp_path / 'train_config.json').read_text()
  with pytest.raises(ValueError, match='of 30 steps, more than num_steps = 20'):
    language_model.train_and_evaluate(fewer, tmp_path)
  assert (tmp_path / 'train_config.json').read_text() == kept
  other = config.copy_and_resolve_references()
  other.learning_rate = 2e-2
  with pytest.raises(ValueError, match='other settings of learning_rate'):
    language_model.train_and_evaluate(other, tmp_path)


def test_a_stop_before_the_first_checkpoint_loses_nothing(
  run, tmp_path, monkeypatch
):
  config, _, result = run
  keep = language_model.run_folder.stopping
  assert signal.getsignal(signal.SIGINT) != interrupts.leave  # of a script

  @contextlib.contextmanager
  def stopped_after_7(manager, mesh):
    with keep(manager, mesh) as inner:

      def outer(step, state):
        if step == 7:
          os.kill(os.getpid(), signal.SIGINT)
        inner(step, state)

      yield outer

  with monkeypatch.context() as patch:
    patch.setattr(language_model.run_folder, 'stopping', stopped_after_7)
    with pytest.raises(KeyboardInterrupt):
      language_model.train_and_evaluate(config, tmp_path)
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['7']
  again = language_model.train_and_evaluate(config, tmp_path)
  jax.tree.map(
    np.testing.assert_array_equal, again.model.params, result.model.params
  )


@pytest.mark.parametrize(
  'name', ['train_config.json', 'history.json', 'tokenizer.json', 'origin.json']
)
def test_damaged_files_of_a_run_are_named(run, tmp_path, name):
  config, workdir, _ = run
  shutil.copytree(workdir, tmp_path / 'run')
  path = tmp_path / 'run' / name
  whole = path.read_text()
  for content in ('', whole[: len(whole) // 2]):
    path.write_text(content)
    with pytest.raises(ValueError, match=f'{name} is damaged'):
      language_model.train_and_evaluate(config, tmp_path / 'run')
    assert path.read_text() == content
  path.unlink()
  if name == 'history.json':
    with pytest.raises(ValueError, match='history.json lacks the row of step'):
      language_model.train_and_evaluate(config, tmp_path / 'run')


def test_other_text_under_the_same_name_is_refused(run, tmp_path):
  config, workdir, _ = run
  config = config.copy_and_resolve_references()
  shutil.copytree(workdir, tmp_path / 'run')
  path = pathlib.Path(config.data[0])
  content = path.read_text()
  path.write_text(content + '.')
  try:
    with pytest.raises(ValueError, match='run whose text_sha256 differ'):
      language_model.train_and_evaluate(config, tmp_path / 'run')
  finally:
    path.write_text(content)
  assert (tmp_path / 'run' / 'record.json').exists()


def test_the_record_goes_while_steps_remain(run, tmp_path, monkeypatch):
  config, workdir, _ = run
  config = config.copy_and_resolve_references()
  shutil.copytree(workdir, tmp_path / 'run')
  record = tmp_path / 'run' / 'record.json'
  language_model.train_and_evaluate(config, tmp_path / 'run')
  assert record.exists()  # nothing was left to do

  def train(*_):
    assert not record.exists()
    raise Stop

  monkeypatch.setattr(language_model, 'make_steps', lambda *_: (train, None))
  config.num_steps = 40
  with pytest.raises(Stop):
    language_model.train_and_evaluate(config, tmp_path / 'run')
  assert not record.exists()


def test_each_step_has_its_own_windows(run):
  config, _, result = run
  params = result.model.params
  optimizer = language_model.make_optimizer(config)
  state = language_model.TrainState(params, optimizer.init(params))
  train, _ = language_model.make_steps(config, result.model.config, None)
  size = result.record['train_tokens']  # the shape that is compiled
  rng = np.random.default_rng(0)
  tokens = jax.numpy.asarray(rng.integers(0, 280, size), 'int32')
  values = [
    float(
      train(
        jax.tree.map(jax.numpy.copy, state),  # its memory is taken
        *(tokens, jax.random.key(0), step, None),
      )[1]['cross_entropy']
    )
    for step in (0, 1, 0)
  ]
  assert values[0] == values[2] != values[1]


def test_gradients_are_clipped_and_the_rate_comes_down(run):
  config = run[0]
  schedule = language_model.make_schedule(config)
  rates = [float(schedule(step)) for step in (0, 2, 16, 30)]
  # A cosine, its half, and the shares of the two rates.
  error = statistics.rounding(4, 1e-2)
  wanted = [0, 1e-2, (1e-2 + 5e-4) / 2, 5e-4]  # half way, and the end
  np.testing.assert_allclose(rates, wanted, rtol=0, atol=error)
  params = {'w': jax.numpy.ones((2, 2))}
  optimizer = language_model.make_optimizer(config)
  huge = jax.tree.map(lambda x: 1e9 * x, params)
  with jax.numpy_dtype_promotion('standard'):  # optax mixes types
    _, state = optimizer.update(huge, optimizer.init(params), params)
  moment = state[1][0].mu['w']  # (1 - b1) of a gradient of norm 1
  # Two norms, a quotient, two products.
  error = statistics.rounding(5, 0.1)
  assert np.linalg.norm(moment) == pytest.approx(0.1, rel=0, abs=error)


def test_drafter_learns_from_its_target(run, tmp_path):
  config, workdir, _ = run
  config = config.copy_and_resolve_references()
  config.teacher = str(workdir.parent / 'model')
  config.distillation = 1.0
  config.model.hidden_size = 8
  config.seed = 1
  result = language_model.train_and_evaluate(config, tmp_path / 'run')
  first, last = result.record['history']
  assert 0 < last['kl'] < first['kl']
  assert first['overlap'] < last['overlap'] <= 1
  teacher = pretrained.load_pretrained(config.teacher)
  assert result.model.tokenizer.to_str() == teacher.tokenizer.to_str()
  params = jax.tree.map(lambda x: x * 1.5, teacher.params)
  pretrained.save_pretrained(teacher._replace(params=params), config.teacher)
  try:
    with pytest.raises(ValueError, match='run whose teacher_sha256 differ'):
      language_model.train_and_evaluate(config, tmp_path / 'run')
  finally:
    pretrained.save_pretrained(teacher, config.teacher)


def test_a_loss_that_is_not_finite_stops_the_run(run, tmp_path, monkeypatch):
  config = run[0]

  def steps(*_):
    return lambda state, *_: (state, {'cross_entropy': np.nan}), None

  monkeypatch.setattr(language_model, 'make_steps', steps)
  with pytest.raises(FloatingPointError, match='step 5 is nan.*learning_rate'):
    language_model.train_and_evaluate(config, tmp_path / 'run')
  assert not list((tmp_path / 'run' / 'checkpoints').iterdir())
