"""The command line as a user meets it."""

import json
import re
import subprocess
import sys

import pytest

from listcoupling import image_codec, tables
from listcoupling.experiments import images, toy
from listcoupling.models.pretrained import SHIPPED
from tests import commands

PROMPTS = ('import ', 'def main(argv):')


def _generate(*flags, num_tokens=12):
  done = commands.run(
    'scripts/generate.py',
    f'--max_new_tokens={num_tokens}',
    '--stop_tokens=',
    *flags,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """The plain sampler's report, prompts from a file."""
  path = tmp_path_factory.mktemp('prompts') / 'prompts.txt'
  path.write_text('\n\n'.join(PROMPTS) + '\n')
  return json.loads(
    _generate(
      f'--prompts={path}', '--method=autoregressive', '--format=json',
      '--logprobs',
    )
  )  # fmt: skip


def test_the_same_text_with_and_without_drafts_each_under_its_prompt(plain):
  shown = _generate(
    *[f'--prompt={prompt}' for prompt in PROMPTS],
    '--num_drafts=2',
    '--drafter=ngram',
  )
  assert [row['prompt'] for row in plain['rows']] == list(PROMPTS)
  for number, row in enumerate(plain['rows'], 1):
    assert len(row['token_ids']) == len(row['logprobs']) == 12
    assert row['block_efficiency'] == 1 and row['finish_reason'] == 'length'
    under = f'== Prompt\n{row["prompt"]}\n-- Text {number}\n'
    assert under + row['text'] in shown
  assert 'tokens/s in the decoding loop' in shown
  assert 'with compilation and prompts' in shown
  assert plain['tokens_per_second'] > plain['tokens_per_second_overall'] > 0


def test_a_text_is_streamed_and_ends_at_a_stop_string(plain):
  text = plain['rows'][0]['text']
  stop = text[4:6]
  streamed = _generate(
    '--prompt=import ', '--stream', '--num_drafts=2', f'--stop_string={stop}'
  )
  assert streamed.startswith(text[: text.find(stop)] + '\n[')


def test_the_fastest_tree_is_found_first():
  """Of those that fit: plain sampling and the chain of two."""
  done = commands.run(
    'scripts/generate.py',
    *('--prompt=import ', '--tune', '--format=json', '--stop_tokens='),
    *('--max_new_tokens=8', '--forward_nodes=3'),
  )
  assert done.returncode == 0, done.stderr
  (line,) = [x for x in done.stderr.splitlines() if x.startswith('fastest: ')]
  (row,) = json.loads(done.stdout)['rows']
  assert len(row['token_ids']) == 8
  plain = line == 'fastest: --method=autoregressive'
  tree = 'fastest: --num_drafts=1 --draft_length=2 --num_nodes=2'
  assert plain or line.startswith(tree)
  assert (row['block_efficiency'] == 1) == plain


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--target=./no_such_model', '--prompt_ids=1'], 'no_such_model'),
    (['--prompt_ids=1,2,x'], "'x' in '1,2,x'"),
    (['--prompt=a', '--chat'], '--chat needs --target'),
    (['--prompt=a', '--stream', '--num_samples=2'], '--stream'),
    (['--prompt=a', '--logprobs'], '--format=json alone'),
    ([f'--target={SHIPPED}/drafter', '--tune', '--prompt=a'], 'tune needs'),
  ],
)
def test_a_mistake_is_one_line(flags, message):
  done = commands.run('scripts/generate.py', *flags)
  assert done.returncode == 1 and message in done.stderr
  assert len(done.stderr.strip().splitlines()) <= 2


_TINY = [
  f'--config.refine.{name}=2'
  for name in ('steps', 'classifier_steps', 'hidden_size', 'batch_size')
]
_LIST = '--scheme=list_quantiser'


def test_one_codec_is_fitted_and_no_other_taken_for_it(tmp_path):
  run = 'scripts/train_vae.py', f'--workdir={tmp_path}', *_TINY
  done = commands.run(
    *run, _LIST, '--num_messages=4', '--config.refine.num_kmeans=99'
  )
  assert done.returncode == 0, done.stderr
  assert 'list_quantiser_8.safetensors, named by the number' in done.stdout
  assert f'encode --model {tmp_path} --scheme list_quantiser' in done.stdout
  assert [x.name for x in tmp_path.iterdir()] == ['fits']  # needs no VAE
  trained = image_codec.load_model(
    tmp_path, scheme='list_quantiser', num_decoders=2, num_messages=4
  )
  assert trained.model.fit.config.hidden_size == 2
  for flags, message in (
    (
      [_LIST, '--num_decoders=4', '--num_messages=2'],
      'num_decoders ([2], now [4])',
    ),
    ([_LIST, '--num_messages=4', '--mesh=data=3'], 'data=3'),
    (
      ['--bin_size=1', '--num_groups=1'],
      '--num_groups, --bin_size need --scheme',
    ),
    ([_LIST, '--num_messages=0'], 'num_messages must be at least 1, got 0'),
    ([_LIST, '--num_groups=2'], 'num_groups of a list quantiser must be 1'),
  ):
    done = commands.run(*run, '--config.refine.num_kmeans=99', *flags)
    assert done.returncode == 1 and message in done.stderr, done.stderr
  done = commands.run(*run, "--config.schemes=('list_quantiser',)")
  assert done.returncode == 0 and 'need no VAE' in done.stdout, done.stderr
  assert [x.name for x in tmp_path.iterdir()] == ['fits']


def test_a_trained_vae_is_told_with_the_end_of_its_history(tmp_path):
  run = (
    'scripts/train_vae.py', f'--workdir={tmp_path}', '--config.train.steps=2',
    '--config.train.steps_per_call=1', '--config.betas=(0.25,)',
  )  # fmt: skip
  for _ in range(2):  # the second time it is there
    done = commands.run(*run)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / 'model_beta_0.25'
    *_, row = json.loads((folder / 'history.json').read_text())
    assert row.pop('step') == 2
    figures = ', '.join(f'{key} {value:.4g}' for key, value in row.items())
    wanted = [f'{folder}: trained for 2 steps', f'  {figures}']
    assert done.stdout.splitlines() == wanted


_INVARIANCE = (
  '--batch=3', '--max_new_tokens=4', '--methods=gumbel_tree', '--mesh=data=1',
  '--forward_nodes=17', '--seed=5',
)  # fmt: skip


def test_texts_that_a_mesh_leaves_alone_are_told_so(tmp_path):
  workdir = f'--workdir={tmp_path}'
  done = commands.run('scripts/check_invariance.py', *_INVARIANCE, workdir)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].endswith('explain: 0 of 1')
  (row,) = tables.read_csv(tmp_path / 'results.csv')
  assert row['method'] == 'gumbel_tree' and row['change'] == 'data=1'
  assert row['tokens'] == row['identical'] == 12


def test_a_text_that_nothing_explains_ends_with_status_1(tmp_path):
  """Here the count is another, which tells what it was asked."""
  code = f"""
import runpy, sys
import jax
from listcoupling import gumbel
from listcoupling.decoding import invariance

def count(key, target, drafter, prompts, lengths, options, **rest):
  assert (key == gumbel.seed_key(5)).all() and prompts.shape[0] == 3
  assert options.max_new_tokens == 4 and options.forward_nodes == 17
  assert lengths.shape == (3,) and options.stop_tokens == ()
  assert rest['methods'] == ['gumbel_tree'] and rest['progress']
  assert target.params is not drafter.params
  assert dict(rest['meshes']['data=1'].shape)['data'] == 1
  return [{{'explained': True}}, {{'explained': False}}, {{'method': 'gls'}}]

invariance.count_changes = count
sys.argv = ['check_invariance.py', *{_INVARIANCE}, '--workdir={tmp_path}']
runpy.run_path('scripts/check_invariance.py', run_name='__main__')
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=commands.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 1
  assert done.stdout.splitlines()[-1].endswith('explain: 1 of 2'), done.stderr


def test_the_demo_ends_with_its_figures_and_says_what_a_cpu_gains():
  text = (commands.ROOT / 'scripts/demo.py').read_text()
  named = set(re.findall(r'^  (\S+\.png)  +\w+ \w+', text, re.M))
  drawn = {f'toy/{name}' for name in toy.run.figures}
  drawn |= {f'digits/{name}' for name in images.run.figures}
  assert named == drawn | {'decoding.png', 'digits/examples_*.png'}
  assert text.index('{_FIGURES}') > text.index("'vae_digits'")
  assert 'so small a target is faster alone.' in text
