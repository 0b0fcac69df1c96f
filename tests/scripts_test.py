"""The command line as a user meets it."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _run(*arguments):
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def _generate(*flags):
  done = _run(
    'scripts/generate.py',
    '--max_new_tokens=12',
    '--format=json',
    '--prompt=import ',
    '--prompt=def main(argv):',
    *flags,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_generate_writes_the_same_text_with_and_without_drafts():
  plain = _generate('--method=autoregressive')
  tree = _generate('--method=gumbel_tree', '--num_drafts=2')
  assert len(plain['rows']) == 2
  for a, b in zip(plain['rows'], tree['rows']):
    assert a['token_ids'] == b['token_ids'] and len(a['token_ids']) == 12
    assert a['text'] == b['text'] != ''
    assert a['block_efficiency'] == 1 <= b['block_efficiency']
    assert b['target_calls'] + b['accepted_tokens'] >= 12


def test_a_missing_checkpoint_is_named():
  done = _run(
    'scripts/generate.py', '--target=./no_such_model', '--prompt_ids=1'
  )
  assert done.returncode != 0 and 'no_such_model' in done.stderr
