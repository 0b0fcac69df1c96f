"""The transformer beside the transformers library, both run here.

Skipped without torch and transformers; `parity_test` holds their figures.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import listcoupling as lc
from listcoupling.models import pretrained, transformer
from tests import statistics
from tests.models import limits, make_fixtures

torch = pytest.importorskip(
  'torch', reason="needs torch: pip install -e '.[baselines]'"
)
transformers = pytest.importorskip(
  'transformers', reason="needs transformers: pip install -e '.[baselines]'"
)

CASES = sorted(make_fixtures.CASES)
SEED = 1000  # another model than the fixture's

full_logits = jax.jit(transformer.causal_logits, static_argnums=0)


@pytest.fixture(scope='module', params=CASES)
def pair(request, tmp_path_factory):
  """(transformers' model, its directory, ours) of one fresh checkpoint."""
  directory = tmp_path_factory.mktemp(request.param)
  peer = make_fixtures.random_model(request.param, SEED)
  make_fixtures.save(request.param, peer, directory, stop_tokens=[88])
  return peer, directory, pretrained.load_pretrained(directory)


def worst(peer, model, change=None):
  """Largest difference of the logits over a ragged batch."""
  prompts, lengths = make_fixtures.random_prompts(1), make_fixtures.LENGTHS
  config = dataclasses.replace(model.config, **(change or {}))
  ours = full_logits(config, model.params, prompts)
  theirs = make_fixtures.peer_logits(peer, prompts)
  valid = np.arange(prompts.shape[1]) < np.c_[list(lengths)]
  return np.abs(ours - theirs)[valid].max()


def limit(model):
  """Most that roundings alone set two ways to compute the logits apart."""
  prompts = make_fixtures.random_prompts(1)
  return limits.apart(model.config, model.params, prompts)


def test_logits(pair):
  peer, _, model = pair
  # Negative control: the norm's epsilon alone is seen.
  other = worst(peer, model, {'rms_eps': 1e-2})
  assert worst(peer, model) < limit(model) < other


def test_saved_directory_loads_there(pair, tmp_path):
  peer, _, model = pair
  pretrained.save_pretrained(model, tmp_path / 'm')
  back = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'm', dtype=torch.float32
  )
  assert type(back) is type(peer)
  prompts = make_fixtures.random_prompts(2)
  np.testing.assert_array_equal(
    make_fixtures.peer_logits(back, prompts),
    make_fixtures.peer_logits(peer, prompts),
  )
  assert back.generation_config.eos_token_id == [88]
  # The old spelling that we write is what transformers 5 reads; what a file
  # may leave out we state.
  for name in ('rms_norm_eps', 'tie_word_embeddings', 'hidden_act'):
    assert getattr(back.config, name) == getattr(peer.config, name), name
  ours, theirs = back.config.rope_parameters, peer.config.rope_parameters
  assert {name: ours[name] for name in theirs} == theirs


def test_greedy_text(pair):
  peer, _, model = pair
  prompts = make_fixtures.random_prompts(3)
  expected = make_fixtures.peer_greedy(peer, prompts)
  options = lc.GenerateOptions(
    num_drafts=2,
    draft_length=2,
    temperature=0.0,
    max_new_tokens=make_fixtures.NEW_TOKENS,
  )
  lengths = np.asarray(make_fixtures.LENGTHS)
  out = lc.generate(
    jax.random.key(0), model, [model], prompts, lengths, options
  )
  np.testing.assert_array_equal(out.tokens, expected)
  assert out.metrics.block_efficiency.min() > 2.5


def test_half_precision_is_as_good_as_theirs(pair):
  peer, directory, _ = pair
  half = pretrained.load_pretrained(directory, dtype=jnp.bfloat16)
  prompts = np.random.default_rng(4).integers(2, 89, (8, 14))
  exact = make_fixtures.peer_logits(peer, prompts, [14] * 8)
  ours = full_logits(half.config, half.params, prompts)
  there = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.bfloat16
  )
  with torch.no_grad():
    theirs = there(torch.tensor(prompts)).logits.float().numpy()
  errors = [np.mean((x - exact) ** 2, axis=-1) for x in (ours, theirs)]
  # We may round twice where they do once: a product, then its sum with a bias.
  excess = errors[0] - 2 * errors[1]
  assert excess.mean() < statistics.SIGMAS * stats.sem(excess, axis=None)


def test_old_spelling_of_rope_is_theirs(tmp_path):
  # transformers 4 wrote rope_theta and rope_scaling; both sides must read it.
  peer = make_fixtures.random_model('llama_sharded', SEED)
  make_fixtures.save('llama_sharded', peer, tmp_path)
  path = tmp_path / 'config.json'
  raw = json.loads(path.read_text())
  rope = raw.pop('rope_parameters')
  raw['rope_theta'] = rope.pop('rope_theta')
  raw['rope_scaling'] = {'type': rope.pop('rope_type'), **rope}
  path.write_text(json.dumps(raw))
  back = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, dtype=torch.float32
  )
  model = pretrained.load_pretrained(tmp_path)
  assert worst(back, model) < limit(model)
