"""Every option of a generation is a flag, with its own words for help."""

import dataclasses
import typing

import pytest
from absl import flags

from listcoupling import command_flags
from listcoupling.decoding.options import GenerateOptions


@pytest.fixture(scope='module')
def parse():
  """Options from command-line words; the flags are gone afterwards."""
  before = set(flags.FLAGS)
  describe = command_flags.define_options(GenerateOptions)

  def run(*words):
    flags.FLAGS.unparse_flags()
    for name in set(flags.FLAGS) - before:
      flags.FLAGS[name].unparse()
    flags.FLAGS(['script', *words])
    return describe()

  yield run
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)


def test_without_flags_the_options_are_the_defaults(parse):
  assert parse() == GenerateOptions()


def test_every_field_is_a_flag_with_its_documentation(parse):
  del parse
  for field in dataclasses.fields(GenerateOptions):
    words = flags.FLAGS[field.name].help
    assert len(words.split()) > 3 and '\n' not in words, field.name
  assert flags.FLAGS['top_p'].help.startswith('keep the fewest most likely')


def test_help_shows_the_flags_of_the_script_that_asked_for_them(parse):
  del parse
  shown = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(__name__)}
  assert {field.name for field in dataclasses.fields(GenerateOptions)} <= shown


# One value other than the default for each kind of field.
VALUES = {
  str: ('gls', 'gls'),
  int: ('7', 7),
  float: ('0.25', 0.25),
  tuple[int, ...]: ('3,5', (3, 5)),
  tuple[float, ...]: ('1,.5', (1.0, 0.5)),
  tuple[tuple[int, float], ...]: ('5:-1.5,7:0', ((5, -1.5), (7, 0.0))),
}


@pytest.mark.parametrize(
  'field', dataclasses.fields(GenerateOptions), ids=lambda field: field.name
)
def test_every_field_is_read_from_its_flag(parse, field):
  kind = command_flags._without_none(
    typing.get_type_hints(GenerateOptions)[field.name]
  )
  word, value = VALUES.get(kind, (str(not field.default), not field.default))
  options = parse(f'--{field.name}={word}')
  assert options == dataclasses.replace(
    GenerateOptions(), **{field.name: value}
  )


def test_an_empty_value_is_no_value(parse):
  assert parse('--stop_tokens=').stop_tokens == ()


@pytest.mark.parametrize(
  ('word', 'message'),
  [
    ('--stop_tokens=1,x', "--stop_tokens must be written like 5,7, got 'x'"),
    ('--logit_bias=5', "--logit_bias .* 5:1.5,7:-2, got '5'"),
    ('--draft_temperatures=1,,2', "got ''"),
  ],
)
def test_what_cannot_be_read_is_named(parse, word, message):
  with pytest.raises(ValueError, match=message):
    parse(word)
