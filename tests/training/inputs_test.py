"""Inputs of a run; bad ones are refused before anything is written."""

import pytest
import tokenizers

from configs import (
  lm_drafter,
  lm_gpu_drafter,
  lm_gpu_target,
  lm_pair_drafter,
  lm_pair_target,
  lm_target,
  toy,
)
from listcoupling.data import text
from listcoupling.models import pretrained
from listcoupling.training import inputs, language_model
from tests.training import tiny_text

TEACHER = str(pretrained.SHIPPED / 'target')


@pytest.fixture
def config(tmp_path):
  return tiny_text.small_config(tiny_text.write_text(tmp_path / 'text.txt'))


@pytest.mark.parametrize(
  'change, message',
  [
    ({'num_steps': 0}, 'num_steps.*0'),
    ({'seed': -1}, 'seed .* got -1'),
    ({'clip_norm': -1.0}, 'clip_norm.*-1'),
    ({'distillation': 1.5}, '1.5'),
    ({'distillation': 0.5}, 'teacher is empty'),
    ({'warmup_steps': 30}, 'warmup_steps.*30 and 30'),
    ({'sequence_length': 10**6}, '1000001'),
    ({'teacher': TEACHER}, '280.*1024'),
    ({'learning_rte': 0.1}, 'unknown learning_rte'),
    ({'model': {'hidden': 3}}, 'config.model has the unknown hidden'),
  ],
)
def test_bad_settings_are_refused(config, change, message, tmp_path):
  with config.unlocked():
    config.update(change)
  with pytest.raises(ValueError, match=message):
    language_model.train_and_evaluate(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()  # nothing was written


def test_a_config_of_another_script_is_refused(tmp_path):
  with pytest.raises(ValueError, match='lacks batch_size.* another script'):
    language_model.train_and_evaluate(toy.get_config(), tmp_path / 'run')


@pytest.mark.parametrize(
  'change, name',
  [
    ({'data': ('no_such.txt',)}, 'no_such.txt'),
    ({'teacher': './no_such_model'}, 'no_such_model'),
    ({'tokenizer': 'no_such.json'}, 'no_such.json'),
  ],
)
def test_missing_files_are_named(config, change, name, tmp_path):
  config.update(change)
  with pytest.raises(FileNotFoundError, match=name):
    language_model.train_and_evaluate(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_teacher_must_bring_the_tokenizer_of_its_ids(config, tmp_path):
  config.model.vocab_size = 1024
  config.teacher = TEACHER
  teacher = inputs.load_teacher(config)
  texts = inputs.load_texts(config, tmp_path / 'run', teacher)
  assert texts.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
  other = text.train_tokenizer(['some other text ' * 9], 260)
  other.save(str(tmp_path / 'tokenizer.json'))
  config.tokenizer = str(tmp_path)
  with pytest.raises(ValueError, match='tokenizers of .* differ'):
    inputs.load_texts(config, tmp_path / 'run', teacher)
  pretrained.save_pretrained(
    teacher._replace(tokenizer=None), tmp_path / 'mute'
  )
  config.teacher = str(tmp_path / 'mute')
  with pytest.raises(ValueError, match='mute has no tokenizer.json'):
    inputs.load_teacher(config)


def test_a_given_tokenizer_is_used_if_it_fits(config, tmp_path):
  given = text.train_tokenizer(['the race is won ' * 9], 262)
  given.save(str(tmp_path / 'tokenizer.json'))
  config.tokenizer = str(tmp_path / 'tokenizer.json')
  texts = inputs.load_texts(config, tmp_path / 'run', None)
  assert texts.tokenizer.to_str() == given.to_str()
  config.model.vocab_size = 261
  with pytest.raises(ValueError, match='262 tokens, more than'):
    inputs.load_texts(config, tmp_path / 'run', None)


def test_byte_level_is_a_vocabulary_of_257(config, tmp_path):
  config.model.vocab_size = 257
  texts = inputs.load_texts(config, tmp_path / 'run', None)
  assert isinstance(texts.tokenizer, tokenizers.Tokenizer)
  content = texts.corpus.train[0].text
  assert len(texts.train) == len(content.encode()) + 1


@pytest.mark.parametrize(
  'target, drafter',
  [
    (lm_target, lm_drafter),
    (lm_pair_target, lm_pair_drafter),
    (lm_gpu_target, lm_gpu_drafter),
  ],
)
def test_configs_of_a_pair_fit_together(target, drafter):
  target, drafter = target.get_config(), drafter.get_config()
  assert target.model.vocab_size == drafter.model.vocab_size
  assert target.data == drafter.data
  inputs.check_settings(target)
  inputs.check_settings(drafter)
  assert drafter.teacher and drafter.distillation > 0


def test_shipped_pair_is_what_its_configs_say():
  shipped = pretrained.shipped_pair()
  for module, model in zip((lm_target, lm_drafter), shipped, strict=True):
    for name, value in module.get_config().model.items():
      assert getattr(model.config, name) == value
