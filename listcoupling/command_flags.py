"""Flags that scripts share, and what they describe.

Each function defines flags as the script's own and returns a function that
reads them. Options are a dataclass: a field that is added to it is a flag.
"""

import dataclasses
import inspect
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from listcoupling import command, together
from listcoupling.data import prompt_files
from listcoupling.decoding import placement

flags.disclaim_key_flags()  # they belong to the script that asks for them


def define_mesh() -> Callable[[], Any]:
  """Defines --mesh and the flags of `command.define_processes`.

  Returns:
    A function that joins the other processes and makes the mesh or None. It
    raises ValueError for no such mesh, or not the same one in all processes.
  """
  words = 'Devices by axis: data (rows), fsdp, tp; such as data=2,tp=4.'
  axes = flags.DEFINE_string('mesh', '', words)
  join = command.define_processes()

  def mesh():
    join()
    with together.agreed() as agree:
      agree(mesh=axes.value)
      return placement.parse_mesh(axes.value)

  return mesh


def define_models() -> Callable[..., tuple]:
  """Defines --target, --drafter and --dtype.

  Returns:
    A function of a mesh or None: the target and the list of drafters, the
    shipped pair where no target is named.
  """
  target = flags.DEFINE_string('target', None, 'Directory or hub name.')
  drafter = flags.DEFINE_list('drafter', [], 'Directories, hub names or ngram.')
  dtype = flags.DEFINE_string('dtype', 'float32', 'Of the weights, or auto.')

  def load(mesh=None):
    from listcoupling.decoding.drafters import NGramDrafter
    from listcoupling.models import pretrained  # brings Flax

    names, own = drafter.value, target.value
    for name in (own, *names):
      if name == 'shipped' and not os.path.isdir(name):
        raise ValueError(
          "'shipped' is not a directory; the pair that ships is taken where "
          '--target and --drafter are left out.'
        )
    if own is None:
      own = pretrained.SHIPPED / 'target'
      names = names or [pretrained.SHIPPED / 'drafter']
    model = pretrained.load_pretrained(own, dtype=dtype.value, mesh=mesh)
    return model, [
      NGramDrafter(model.config.vocab_size)
      if name == 'ngram'
      else pretrained.load_pretrained(name, dtype=dtype.value)
      for name in names
    ]

  return load


def define_prompts() -> Callable[[], list]:
  """Defines --prompt, --prompt_ids, --prompts and --whole_file.

  Returns:
    A function: the prompts, see `prompt_files.collect`.
  """
  prompt = flags.DEFINE_multi_string('prompt', [], 'Text; may be repeated.')
  ids = flags.DEFINE_multi_string('prompt_ids', [], 'Such as 1,2,3.')
  file = flags.DEFINE_string(
    'prompts', None, 'A prompt a line, or .jsonl of prompt, text or messages.'
  )
  whole = flags.DEFINE_bool('whole_file', False, '--prompts is one prompt.')
  return lambda: prompt_files.collect(
    prompt.value, file.value, ids.value, whole_file=whole.value
  )


def define_encoding() -> Callable[[], dict[str, Any]]:
  """Defines --chat and --add_special_tokens, to follow `define_models`.

  Returns:
    A function: the two arguments of `encode_prompts` that say how. It raises
    ValueError where there is no model with a chat template.
  """
  chat = flags.DEFINE_bool('chat', False, "Fill in the target's chat template.")
  special = flags.DEFINE_bool(
    'add_special_tokens',
    None,
    'Begin texts as the tokenizer says; left out: unless --chat.',
  )

  def encoding():
    from listcoupling.decoding.chat import read_chat_template

    target = flags.FLAGS.target
    if chat.value and target is None:
      raise ValueError('--chat needs --target with a chat template.')
    template = read_chat_template(target) if chat.value else None
    return dict(add_special_tokens=special.value, chat_template=template)

  return encoding


def define_writing() -> Callable[[], dict[str, Any]]:
  """Defines --num_samples, --stop_string, --batch_size and --logprobs.

  Returns:
    A function: the arguments of `generate_text` that they are.
  """
  samples = flags.DEFINE_integer('num_samples', 1, 'Texts per prompt.')
  stop = flags.DEFINE_multi_string('stop_string', [], 'End a text.')
  size = flags.DEFINE_integer('batch_size', 16, 'Texts written at a time.')
  logprobs = flags.DEFINE_bool('logprobs', False, 'Of tokens, for json.')
  return lambda: dict(
    num_samples=samples.value,
    stop_strings=stop.value,
    batch_size=size.value,
    logprobs=logprobs.value,
  )


def define_options(cls: type) -> Callable[[], Any]:
  """Defines a flag for each field of a dataclass.

  The help is the field's entry under "Attributes:" in the docstring of the
  class. Tuples are written 1,2,3 and pairs 5:-1.5,7:2; an empty value is ().
  Flags that are not given leave the field's default.

  Args:
    cls: fields of type str, int, float, bool, tuples of numbers, tuples of
      pairs of numbers, or one of these and None.

  Returns:
    A function without arguments: the instance that the flags describe. It
    raises ValueError where a value cannot be read, naming the flag.

  Example:
    >>> @dataclasses.dataclass
    ... class Cake:
    ...   '''Attributes:
    ...     layers: how many.
    ...   '''
    ...   layers: int = 2
    >>> describe = define_options(Cake)
    >>> flags.FLAGS(['bake.py', '--layers=3'])
    ['bake.py']
    >>> describe()
    Cake(layers=3)
  """
  hints, documents = typing.get_type_hints(cls), _documents(cls)
  readers = {}
  for field in dataclasses.fields(cls):
    kind = _without_none(hints[field.name])
    text = documents.get(field.name, '')
    if kind in _FLAGS:
      make, readers[field.name] = _FLAGS[kind], _as_it_is
    else:
      make, readers[field.name] = flags.DEFINE_string, _reader_of_tuples(kind)
      text += f' Written {_example(kind)}.'
    make(field.name, None, f'{text} [{_written(field.default)}]')

  def instance():
    given = {
      name: read(name, flags.FLAGS[name].value)
      for name, read in readers.items()
      if flags.FLAGS[name].present
    }
    return cls(**given)

  return instance


def written(options: Any, given: Any) -> str:
  """The flags that make `options` out of what was given.

  Fields that became None have no flag.

  Example:
    >>> from listcoupling.decoding.options import GenerateOptions
    >>> written(GenerateOptions(num_drafts=2, top_k=5), GenerateOptions())
    '--num_drafts=2 --top_k=5'
  """
  names = [field.name for field in dataclasses.fields(options)]
  values = {name: getattr(options, name) for name in names}
  return ' '.join(
    f'--{name}={_written(value)}'
    for name, value in values.items()
    if value is not None and value != getattr(given, name)
  )


def _documents(cls) -> dict[str, str]:
  """The docstring's words on each attribute, on one line."""
  _, _, section = (inspect.getdoc(cls) or '').partition('Attributes:\n')
  section = section.split('\n\n')[0]
  entries = re.split(r'^(\w+): ', textwrap.dedent(section), flags=re.M)
  return {
    name: ' '.join(text.split())
    for name, text in zip(entries[1::2], entries[2::2])
  }


def _without_none(kind):
  if isinstance(kind, types.UnionType):
    kind = next(each for each in kind.__args__ if each is not type(None))
  return kind


def _written(default) -> str:
  """A default as the flag would be written."""
  if not isinstance(default, tuple):
    return str(default)
  return ','.join(
    ':'.join(map(str, each)) if isinstance(each, tuple) else str(each)
    for each in default
  ) or "''"  # fmt: skip


def _as_it_is(name, value):
  del name
  return value


_FLAGS = {
  str: flags.DEFINE_string,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  bool: flags.DEFINE_bool,
}


def _parts(kind):
  """Types of the numbers in one item of tuple[item, ...]."""
  item = typing.get_args(kind)[0]
  return typing.get_args(item) or (item,)


def _example(kind) -> str:
  """Two items of tuple[int, ...] or tuple[tuple[int, float], ...]."""
  return ','.join(
    ':'.join(each[part] for part in _parts(kind))
    for each in ({int: '5', float: '1.5'}, {int: '7', float: '-2'})
  )


def _reader_of_tuples(kind):
  """Reads what `_example` writes."""
  parts = _parts(kind)

  def read(name, text):
    values = []
    for word in text.split(',') if text.strip() else []:
      numbers = word.split(':')
      try:
        value = tuple(
          part(number) for part, number in zip(parts, numbers, strict=True)
        )
      except ValueError:
        raise ValueError(
          f'--{name} must be written like {_example(kind)}, got '
          f'{word.strip()!r} in {text!r}.'
        ) from None
      values.append(value if len(parts) > 1 else value[0])
    return tuple(values)

  return read
