"""Against the transformers library: the same checkpoints, machine and run.

Both libraries have the same two models, a random target and a drafter made of
its first layers, in float32, and sample without any filter or stop token, so
that both write the same number of tokens from the same law. Plain sampling,
speculative decoding at batch 1 (there: assisted generation) and at batch 8
(there: none). Every time is the median of rounds in which all
settings take turns, after one run that compiles here and warms up there. A
time is that of the whole call, from token ids to token ids; beside it stands
the rate once the prompt is read. Needs the `baselines` extra.

Random weights have a gain tuned for an overlap 1 - TV of about .75, above the
.66 of the shipped pair: what speculation gains is told too large, for both.
"""

import contextlib
import functools
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

import jax
import numpy as np

from listcoupling import gumbel
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.benchmarks import speed
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained, transformer
from listcoupling.models.random_pair import overlap, random_pair

_PROMPT = 24
# Drafts per block of assisted generation: ours, and the library's own choice
# (20, ended early where the drafter's confidence falls under 0.4).
ASSISTED = {'assisted, L=4': (4, 0.0), 'assisted, default': (20, 0.4)}
_EFFORT = {'100M': (48, 3)}  # new tokens and rounds; of the others:
_USUAL = 96, 5


def versions() -> dict[str, str]:
  """Of the other library and of what it computes with.

  Raises:
    ModuleNotFoundError: one of them is not installed.
  """
  return {name: metadata.version(name) for name in ('torch', 'transformers')}


class Setting(NamedTuple):
  """One line of the table."""

  library: str
  method: str
  batch: int
  threads: int  # of torch; XLA takes all cores
  num_drafts: int


class Figure(NamedTuple):
  """Results of one generation."""

  rate: float  # tokens per second of the whole call, prompt included
  decode_rate: float  # the same once the prompt is read
  block_efficiency: float


def settings(cores: int) -> list[Setting]:
  """All that is compared: theirs on one and on all cores, then ours."""
  theirs = [('sampling', 1, 0), *((name, 1, 1) for name in ASSISTED)]
  theirs.append(('sampling', 8, 0))
  ours = [('autoregressive', 0), ('single', 1)]
  ours += [('gumbel_tree', 1), ('gumbel_tree', 4)]
  return [
    Setting('transformers', method, batch, threads, drafts)
    for threads in sorted({1, cores})
    for method, batch, drafts in theirs
  ] + [
    Setting('listcoupling', method, batch, cores, drafts)
    for batch in (1, 8)
    for method, drafts in ours
  ]


def table(sizes: Sequence[str]) -> speed.Table:
  """Both libraries side by side, one size after the other.

  Rows have the median, least and largest tokens per second over rounds, the
  block efficiency, and ratios to the best figures of transformers at the same
  batch; at batch 1 to assisted generation, too. `overlap` is that of drafter
  and target on the prompts.

  Args:
    sizes: of `speed.SIZES`. A size is measured as a whole with its first row.

  Raises:
    ValueError: unknown size, JAX does not run on the CPU; in a row: logits
      that differ by more than 1e-3.
  """
  for size in sizes:
    if size not in speed.SIZES:
      names = ', '.join(speed.SIZES)
      raise ValueError(f'size must be one of {names}, got {size!r}.')
  if jax.default_backend() != 'cpu':
    raise ValueError(
      f'transformers runs on the CPU here, JAX on {jax.default_backend()!r}: '
      'no figure would be fair; set JAX_PLATFORMS=cpu.'
    )
  todo = settings(os.cpu_count())

  @functools.cache  # all settings of a size are timed in turn
  def measured(size):
    return measure(size, todo)

  def row(size, **setting):
    figures, about = measured(size)
    return about | compared(figures, Setting(**setting))

  lines = [setting._asdict() for setting in todo]
  return speed.Table([{'size': x, **y} for x in sizes for y in lines], row)


def measure(
  size: str, todo: Sequence[Setting]
) -> tuple[dict[Setting, list[Figure]], dict]:
  """Figures of one size by setting, round by round, and about the pair."""
  new_tokens, rounds = _EFFORT.get(size, _USUAL)
  key = gumbel.domain_key(gumbel.seed_key(0), Domain.MODEL_INIT)
  target, drafter = random_pair(key, **speed.SIZES[size])
  theirs, assistant = _converted(target), _converted(drafter)
  prompts = np.random.default_rng(0).integers(
    0, target.config.vocab_size, (8, _PROMPT)
  )
  about = {
    'parameters': sum(x.size for x in jax.tree.leaves(target.params)),
    'new_tokens': new_tokens,
    'rounds': rounds,
    'logit_difference': largest_difference(target, theirs, prompts[:2]),
    'overlap': overlap(target, drafter, prompts),
  }
  runners = {
    'listcoupling': functools.partial(_ours, target, drafter),
    'transformers': functools.partial(_theirs, theirs, assistant),
  }

  def call(setting):
    own, seeds = prompts[: setting.batch], itertools.count()
    run = functools.partial(runners[setting.library], new_tokens, setting, own)
    return lambda: run(next(seeds))

  calls = {setting: call(setting) for setting in todo}
  return speed.in_turn(calls, rounds, show=True), about


def _ours(target, drafter, new_tokens, setting, prompts, seed) -> Figure:
  options = GenerateOptions(
    method=setting.method,
    num_drafts=max(setting.num_drafts, 1),
    draft_length=4,
    max_new_tokens=new_tokens,
  )
  key = gumbel.domain_key(gumbel.seed_key(seed), Domain.TEXTS)
  lengths = np.full(len(prompts), prompts.shape[1])
  began = time.perf_counter()
  out = generate(key, target, [drafter], prompts, lengths, options)
  rate = len(prompts) * new_tokens / (time.perf_counter() - began)
  efficiency = float(out.metrics.block_efficiency.mean())
  return Figure(rate, out.metrics.tokens_per_second, efficiency)


def largest_difference(ours, theirs, prompts) -> float:
  """Largest difference of the logits; ValueError unless they are equal."""
  logits = jax.jit(transformer.causal_logits, static_argnums=0)(
    ours.config, ours.params, prompts
  )
  worst = float(np.abs(logits - _logits(theirs, prompts)).max())
  if not worst < 1e-3:
    raise ValueError(
      f'logits differ by {worst} between the libraries; this is a bug, no '
      'figure would mean anything.'
    )
  return worst


def compared(
  figures: Mapping[Setting, Sequence[Figure]], setting: Setting
) -> dict:
  """Medians over rounds, and ratios to the fastest of transformers.

  Args:
    figures: of every setting, round by round.
    setting: whose row is made.
  """
  rates = {s: [run.rate for run in runs] for s, runs in figures.items()}

  def best(start):
    theirs = [
      np.median(rates[s])
      for s in rates
      if (s.library, s.batch) == ('transformers', setting.batch)
      and s.method.startswith(start)
    ]
    return max(theirs, default=None)

  runs, own, assisted = figures[setting], rates[setting], best('assisted')
  return {
    'tokens_per_second': np.median(own),
    'slowest': min(own),
    'fastest': max(own),
    'decode_tokens_per_second': np.median([run.decode_rate for run in runs]),
    'block_efficiency': np.mean([run.block_efficiency for run in runs]),
    'to_sampling': np.median(own) / best('sampling'),
    'to_assisted': assisted and np.median(own) / assisted,
  }


def _converted(model):
  """A model as transformers reads its checkpoint, in float32."""
  import torch
  import transformers

  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  with tempfile.TemporaryDirectory() as folder:
    pretrained.save_pretrained(model, folder)
    read = transformers.AutoModelForCausalLM.from_pretrained
    return read(folder, dtype=torch.float32).eval()


def _logits(model, tokens: np.ndarray) -> np.ndarray:
  """[B, S, V] of sequences [B, S]."""
  import torch

  with torch.no_grad():
    return model(torch.tensor(tokens)).logits.numpy()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
  """So many threads of torch, which has its own again afterwards."""
  import torch

  before = torch.get_num_threads()
  torch.set_num_threads(count)
  try:
    yield
  finally:
    torch.set_num_threads(before)


def _theirs(model, assistant, new_tokens, setting, prompts, seed) -> Figure:
  import torch
  import transformers

  options = transformers.GenerationConfig(
    do_sample=True,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    pad_token_id=0,
    min_new_tokens=new_tokens,
    max_new_tokens=new_tokens,
  )
  extra = {}
  if setting.method in ASSISTED:
    own = assistant.generation_config
    own.num_assistant_tokens, own.assistant_confidence_threshold = ASSISTED[
      setting.method
    ]
    own.num_assistant_tokens_schedule = 'constant'
    extra['assistant_model'] = assistant
  torch.manual_seed(seed)
  ids, ends = torch.tensor(prompts), []  # when each forward ended
  note = model.register_forward_hook(
    lambda *_: ends.append(time.perf_counter())
  )
  with note, _threads(setting.threads), torch.no_grad():
    began = time.perf_counter()
    mask = torch.ones_like(ids)
    out = model.generate(
      ids, attention_mask=mask, generation_config=options, **extra
    )
    ended = time.perf_counter()
  length = out.shape[1] - ids.shape[1]
  count = out.shape[0] * length
  return Figure(
    count / (ended - began), count / (ended - ends[0]), length / len(ends)
  )
