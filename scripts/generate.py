"""Generates text with multi-draft speculative decoding.

  python scripts/generate.py --prompt 'def main(' --method gumbel_tree
  python scripts/generate.py --target DIR --drafter DIR,DIR --prompt_ids 1,2,3
  python scripts/generate.py --prompt 'class ' --compare

Without --target the small pair of Python text that ships with the library is
used. The same --seed gives the same text whatever the drafter with the
methods autoregressive, gumbel_tree and gumbel_chains.
"""

import json
import pathlib

import jax
from absl import app, flags

import listcoupling as lc
from listcoupling.decoding import comparison, text
from listcoupling.decoding.methods import METHODS
from listcoupling.experiments import command
from listcoupling.models import pretrained

_TARGET = flags.DEFINE_string('target', None, 'Directory or hub name.')
_DRAFTER = flags.DEFINE_list('drafter', [], 'Directories or hub names.')
_PROMPT = flags.DEFINE_multi_string('prompt', [], 'Text; may be repeated.')
_PROMPT_IDS = flags.DEFINE_list('prompt_ids', [], 'Token ids: 1,2,3.')
_PROMPTS = flags.DEFINE_string('prompts', None, 'File, one prompt per line.')
_METHOD = flags.DEFINE_enum('method', 'gumbel_tree', list(METHODS), 'Scheme.')
_NUM_DRAFTS = flags.DEFINE_integer('num_drafts', 4, 'K.')
_LENGTH = flags.DEFINE_integer('draft_length', 4, 'L.')
_MAX_NEW = flags.DEFINE_integer('max_new_tokens', 128, 'Tokens per prompt.')
_TEMPERATURE = flags.DEFINE_float('temperature', 1.0, '0 is greedy.')
_TOP_K = flags.DEFINE_integer('top_k', 0, '0 keeps all.')
_TOP_P = flags.DEFINE_float('top_p', 1.0, 'In (0, 1].')
_STOP = flags.DEFINE_list(
  'stop_tokens', None, "Ids that end a row; unset: the checkpoint's, none: ''."
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the text.')
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json'], 'Output.')
_STREAM = flags.DEFINE_bool('stream', False, 'Print as text comes (1 prompt).')
_COMPARE = flags.DEFINE_bool('compare', False, 'All methods side by side.')


def _models():
  drafters = [pretrained.load_pretrained(name) for name in _DRAFTER.value]
  if _TARGET.value is not None:
    return pretrained.load_pretrained(_TARGET.value), drafters
  target, drafter = pretrained.shipped_pair()
  return target, drafters or [drafter]


def _prompts(tokenizer):
  texts = list(_PROMPT.value)
  if _PROMPTS.value:
    texts += pathlib.Path(_PROMPTS.value).read_text('utf-8').splitlines()
  if bool(texts) == bool(_PROMPT_IDS.value):
    raise app.UsageError('Give either --prompt/--prompts or --prompt_ids.')
  if _PROMPT_IDS.value:
    return text.pad_prompts([[int(i) for i in _PROMPT_IDS.value]])
  return lc.encode_prompts(tokenizer, texts)


def _stop_tokens(target):
  if _STOP.value is None:
    return target.config.stop_tokens
  return tuple(int(token) for token in _STOP.value)


def main(argv):
  """Flags, one call, one print."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}.')
  target, drafters = _models()
  prompts, lengths = _prompts(target.tokenizer)
  key = jax.random.key(_SEED.value)
  options = lc.GenerateOptions(
    method=_METHOD.value,
    num_drafts=_NUM_DRAFTS.value,
    draft_length=_LENGTH.value,
    max_new_tokens=_MAX_NEW.value,
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
    stop_tokens=_stop_tokens(target),
  )
  if _COMPARE.value:
    rows = comparison.compare_methods(
      key, target, drafters, prompts, lengths, options
    )
    as_json = _FORMAT.value == 'json'
    print(json.dumps(rows) if as_json else comparison.format_comparison(rows))
    return
  stream = _STREAM.value
  if stream and (
    _FORMAT.value == 'json' or len(prompts) != 1 or target.tokenizer is None
  ):
    raise app.UsageError('--stream prints the text of one prompt.')
  out = lc.generate(
    key,
    target,
    drafters,
    prompts,
    lengths,
    options,
    on_block=text.printer(target.tokenizer) if stream else None,
  )
  report = text.report(out, target.tokenizer, prompts, lengths)
  if _FORMAT.value == 'json':
    print(json.dumps(report))
  else:
    print('' if stream else text.format_report(report))


if __name__ == '__main__':
  command.run(main)
