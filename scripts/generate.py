"""Generates text with multi-draft speculative decoding.

  python scripts/generate.py --prompt 'def main(' --method gumbel_tree
  python scripts/generate.py --target DIR --drafter DIR,DIR --prompt_ids 1,2,3
  python scripts/generate.py --target DIR --drafter ngram --prompts prompts.txt
  python scripts/generate.py --prompt 'class ' --compare

Without --target the small pair of Python text that ships with the library is
used. The same --seed gives the same text whatever the drafter with the
methods autoregressive, gumbel_tree and gumbel_chains. --prompts is a file with
one prompt a line, or .jsonl with "prompt" or "messages" a line. --drafter ngram
guesses from the text itself. --tune tries plain sampling and a grid of trees on
the first batch, prints the flags of the fastest and writes with it. --prompt,
--prompt_ids and --stop_string may be repeated.
"""

import listcoupling.early_interrupts  # noqa: F401

import json
import sys
import time

from absl import flags

import listcoupling as lc
from listcoupling import command, files, mesh_flags, option_flags
from listcoupling.data import prompt_files
from listcoupling.decoding import comparison, text
from listcoupling.models.pretrained import SHIPPED

_TARGET = flags.DEFINE_string('target', None, 'Directory or hub name.')
_DRAFTER = flags.DEFINE_list('drafter', [], 'Directories, hub names or ngram.')
_DTYPE = flags.DEFINE_string('dtype', 'float32', 'Of the weights, or auto.')
_PROMPT = flags.DEFINE_multi_string('prompt', [], 'Text; may be repeated.')
_IDS = flags.DEFINE_multi_string('prompt_ids', [], 'Such as 1,2,3.')
_FILE = flags.DEFINE_string('prompts', None, 'Text file or .jsonl of prompts.')
_WHOLE_FILE = flags.DEFINE_bool('whole_file', False, '--prompts is one prompt.')
_CHAT = flags.DEFINE_bool('chat', False, "Fill in the target's chat template.")
_SPECIAL = flags.DEFINE_bool('add_special_tokens', None, 'None: unless --chat.')
_SAMPLES = flags.DEFINE_integer('num_samples', 1, 'Texts per prompt.')
_STOP = flags.DEFINE_multi_string('stop_string', [], 'Ends a text.')
_BATCH = flags.DEFINE_integer('batch_size', 16, 'Texts written at a time.')
_LOGPROBS = flags.DEFINE_bool('logprobs', False, 'Of tokens, for json.')
_SEED = command.define_seed(0, 'Seed of the text.')
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json'], 'Output.')
_STREAM = flags.DEFINE_bool('stream', False, 'Print one text as it comes.')
_COMPARE = flags.DEFINE_bool('compare', False, 'All methods side by side.')
_TUNE = flags.DEFINE_bool('tune', False, 'Find the fastest tree first.')
_OPTIONS = option_flags.define(lc.GenerateOptions)
flags.adopt_module_key_flags(option_flags)
flags.adopt_module_key_flags(mesh_flags)


def _models(mesh):
  target = _TARGET.value or SHIPPED / 'target'
  target = lc.load_pretrained(target, dtype=_DTYPE.value, mesh=mesh)
  shipped = [SHIPPED / 'drafter'] if _TARGET.value is None else []
  return target, [
    lc.decoding.NGramDrafter(target.config.vocab_size)
    if name == 'ngram'
    else lc.load_pretrained(name, dtype=_DTYPE.value)
    for name in _DRAFTER.value or shipped
  ]


def _compare(*call):
  rows = comparison.compare_methods(*call)
  as_json = _FORMAT.value == 'json'
  print(json.dumps(rows) if as_json else comparison.format_comparison(rows))


def _tuned(key, target, drafters, prompts, options, chat):
  """`options` with the fastest tree for batches like the first one."""
  texts = [each for each in prompts for _ in range(_SAMPLES.value)]
  arrays = lc.encode_prompts(
    target.tokenizer,
    texts[: _BATCH.value],
    add_special_tokens=_SPECIAL.value,
    chat_template=chat,
  )
  best = lc.decoding.tune(key, target, drafters, *arrays, options)
  names = ['method']
  if best.method != 'autoregressive':
    names += ['num_drafts', 'draft_length', 'num_nodes']
  words = [f'--{name}={getattr(best, name)}' for name in names]
  print('fastest:', *words, file=sys.stderr)
  return best


def main(argv):
  """Flags, one call, one print."""
  del argv
  options, as_json = _OPTIONS(), _FORMAT.value == 'json'
  prompts = prompt_files.collect(
    _PROMPT.value, _FILE.value, _IDS.value, whole_file=_WHOLE_FILE.value
  )
  if _STREAM.value and (as_json or len(prompts) * _SAMPLES.value > 1):
    raise ValueError('--stream prints one text, and not as --format=json.')
  if _TUNE.value and _COMPARE.value:
    raise ValueError('--tune and --compare are two jobs; give one of them.')
  target, drafters = _models(mesh_flags.mesh())
  key = lc.gumbel.seed_key(_SEED.value)
  chat = lc.decoding.read_chat_template(_TARGET.value) if _CHAT.value else None
  if _COMPARE.value:
    arrays = lc.encode_prompts(
      target.tokenizer,
      prompts,
      add_special_tokens=_SPECIAL.value,
      chat_template=chat,
    )
    return _compare(key, target, drafters, *arrays, options)
  if _TUNE.value:
    options = _tuned(key, target, drafters, prompts, options, chat)
  began = time.perf_counter()
  texts = lc.generate_text(
    key,
    target,
    drafters,
    prompts,
    options,
    batch_size=_BATCH.value,
    num_samples=_SAMPLES.value,
    stop_strings=_STOP.value,
    add_special_tokens=_SPECIAL.value,
    logprobs=_LOGPROBS.value,
    chat_template=chat,
    on_text=text.show if _STREAM.value else None,
  )
  report = text.report(texts, time.perf_counter() - began)
  if as_json:
    print(json.dumps(files.plain(report)))
  else:
    show = text.format_rates if _STREAM.value else text.format_report
    print(show(report))


if __name__ == '__main__':
  command.run(main)
