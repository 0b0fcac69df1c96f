"""Generates text with multi-draft speculative decoding.

  python scripts/generate.py --prompt 'def main(' --method gumbel_tree
  python scripts/generate.py --target DIR --drafter DIR,DIR --prompt_ids 1,2,3
  python scripts/generate.py --target DIR --drafter ngram --prompts prompts.txt
  python scripts/generate.py --prompt 'class ' --compare

Without --target the pair of Python text that ships with the library is used.
The same --seed gives the same text whatever the drafter with the methods
autoregressive, gumbel_tree and gumbel_chains. --tune tries plain sampling and a
grid of trees on the first batch, prints the flags of the fastest and uses them.
"""

import listcoupling.early_exits  # noqa: F401

import functools
import json
import sys

from absl import flags

import listcoupling as lc
from listcoupling import command, command_flags, files
from listcoupling.decoding import comparison, text

_MESH = command_flags.define_mesh()
_MODELS = command_flags.define_models()
_PROMPTS = command_flags.define_prompts()
_ENCODING = command_flags.define_encoding()
_OPTIONS = command_flags.define_options(lc.GenerateOptions)
_WRITING = command_flags.define_writing()
_SEED = command.define_seed(0, 'Seed of the text.')
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json'], 'Output.')
_STREAM = flags.DEFINE_bool('stream', False, 'Print one text as it comes.')
_COMPARE = flags.DEFINE_bool('compare', False, 'All methods side by side.')
_TUNE = flags.DEFINE_bool('tune', False, 'Find the fastest tree first.')


def main(_):
  """Flags, one call, one print."""
  options, prompts, writing = _OPTIONS(), _PROMPTS(), _WRITING()
  as_json, samples = _FORMAT.value == 'json', writing['num_samples']
  if _STREAM.value and (as_json or len(prompts) * samples > 1):
    raise ValueError('--stream is for one prompt, one sample, no JSON.')
  if writing['logprobs'] and not as_json:
    raise ValueError('--logprobs are printed by --format=json alone.')
  if _TUNE.value and _COMPARE.value:
    raise ValueError('--tune and --compare are two jobs; give one of them.')
  how = _ENCODING()
  pair = lc.gumbel.seed_key(_SEED.value), *_MODELS(_MESH())
  encode = functools.partial(lc.encode_prompts, pair[1].tokenizer, **how)
  if _TUNE.value or _COMPARE.value:
    print('compiling and timing; a minute or more', file=sys.stderr)
  if _COMPARE.value:
    report = comparison.compare_methods(*pair, *encode(prompts), options)
    show = comparison.format_comparison
  else:
    if _TUNE.value:
      first = [x for x in prompts for _ in range(samples)]
      given, first = options, encode(first[: writing['batch_size']])
      tell = functools.partial(print, file=sys.stderr)
      options = lc.decoding.tune(*pair, *first, given, on_turn=tell)
      words = command_flags.written(options, given) or 'what was given'
      print(f'fastest: {words}', file=sys.stderr)
    how |= dict(stream=_STREAM.value, **writing)
    report = text.write(*pair, prompts, options, **how)
    show = text.format_rates if _STREAM.value else text.format_report
  print(json.dumps(files.plain(report)) if as_json else show(report))


if __name__ == '__main__':
  command.run(main)
