"""Against the transformers library: the same checkpoints, machine and run.

Both libraries load the same two directories, a random target and a drafter
made of its first layers, in float32, and sample without any filter or stop
token, so that both write the same number of tokens from the same law. Plain
sampling, speculative decoding at batch 1 (there: assisted generation) and at
batch 8 (there: none). Every time is the median of rounds in which all
settings take turns, after one run that compiles here and warms up there. A
time is that of the whole call, from token ids to token ids; beside it stands
the rate once the prompt is read. Needs the `baselines` extra.

Weights are random, with a gain tuned for an overlap 1 - TV of about .75. That
is more than the .66 of the shipped, trained pair, so block efficiencies and
rates of speculative decoding on random pairs are optimistic, for either
library.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

import jax
import numpy as np
from tqdm import auto as tqdm

from listcoupling import gumbel, tables
from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments.run import environment, open_run
from listcoupling.gumbel import Domain
from listcoupling.models import pretrained, transformer
from listcoupling.models.random_pair import overlap, random_pair
from listcoupling.models.transformer_config import TransformerConfig

_PROMPT = 24
_LIBRARIES = ('torch', 'transformers')
# Drafts per block of assisted generation: ours, and the library's own choice
# (20, ended early where the drafter's confidence falls under 0.4).
ASSISTED = {'assisted, L=4': (4, 0.0), 'assisted, default': (20, 0.4)}


class Size(NamedTuple):
  """A random target, the drafter of its first layers, and the effort."""

  config: TransformerConfig
  draft_layers: int
  gain: float  # of a layer, beside embeddings of 1
  new_tokens: int = 96
  rounds: int = 5


def _config(vocab, hidden, layers, heads, kv_heads, intermediate):
  return TransformerConfig(
    vocab, hidden, layers, heads, kv_heads, hidden // heads, intermediate,
    tie_embeddings=False,
  )  # fmt: skip


SIZES = {
  '1M': Size(_config(1024, 128, 4, 4, 2, 448), 1, 0.2),
  '25M': Size(_config(1024, 512, 8, 8, 4, 1408), 1, 0.13),
  '100M': Size(_config(8192, 768, 12, 12, 4, 2560), 2, 0.1, 48, 3),
}
NAMES = (*SIZES, 'shipped')


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
  rows = []
  for threads in sorted({1, cores}):
    plain = [Setting('transformers', 'sampling', b, threads, 0) for b in (1, 8)]
    assisted = [Setting('transformers', n, 1, threads, 1) for n in ASSISTED]
    rows += [plain[0], *assisted, plain[1]]
  ours = [('autoregressive', 0), ('single', 1), ('gumbel_tree', 1)]
  ours.append(('gumbel_tree', 4))
  return rows + [
    Setting('listcoupling', method, batch, cores, drafts)
    for batch in (1, 8)
    for method, drafts in ours
  ]


def run(sizes: Sequence[str], workdir) -> list[dict]:
  """Compares both libraries, one size after the other.

  Args:
    sizes: of `NAMES`.
    workdir: for results.csv, the figures of every size, which are not
      measured again, and the checkpoints. More sizes may be asked for of it on
      the same machine and versions.

  Returns:
    One row per size and setting with the median, least and largest tokens per
    second, the block efficiency and ratios to the best figures of transformers
    at the same batch; at batch 1 to assisted generation, too. `overlap` is
    that of drafter and target on the prompts.

  Raises:
    ValueError: unknown size, JAX does not run on the CPU, logits that differ
      by more than 1e-3, or a folder of another machine or other versions.
    ImportError: torch or transformers is not installed.
  """
  for size in sizes:
    if size not in NAMES:
      raise ValueError(f'size must be one of {NAMES}, got {size!r}.')
  if jax.default_backend() != 'cpu':
    raise ValueError(
      f'transformers runs on the CPU here, JAX on {jax.default_backend()!r}: '
      'no figure would be fair; set JAX_PLATFORMS=cpu.'
    )
  _check_libraries()
  own = {'environment': environment()}
  own |= {name: metadata.version(name) for name in _LIBRARIES}
  rows, todo = [], settings(os.cpu_count())
  with open_run(workdir, own) as record:
    for size in sizes:
      if record.load(size) is None:
        record.save(size, measure(size, todo, record.workdir))
      kept = record.load(size)
      figures = dict(zip(todo, kept.pop('figures')))
      about = {name: value.item() for name, value in kept.items()}
      rows += summarize(figures, {'size': size, **about})
      tables.write_csv(record.workdir / 'results.csv', rows)
  return rows


def write_pair(size: str, folder: pathlib.Path) -> tuple:
  """Directories of target and drafter, made unless they are shipped."""
  if size == 'shipped':
    return pretrained.SHIPPED / 'target', pretrained.SHIPPED / 'drafter'
  folders = folder / f'{size}-target', folder / f'{size}-drafter'
  key = gumbel.domain_key(gumbel.seed_key(0), Domain.MODEL_INIT)
  own = SIZES[size]
  pair = random_pair(
    key, own.config, draft_layers=own.draft_layers, gain=own.gain
  )
  for model, directory in zip(pair, folders):
    pretrained.save_pretrained(model, directory)
  return folders


def measure(size: str, todo: Sequence[Setting], folder) -> dict:
  """Figures [settings, rounds, 3] of one size, and about the pair."""
  effort = SIZES.get(size, SIZES['1M'])
  new_tokens, rounds = effort.new_tokens, effort.rounds
  folders = write_pair(size, pathlib.Path(folder))
  target, drafter = map(pretrained.load_pretrained, folders)
  theirs, assistant = map(_load, folders)
  prompts = np.random.default_rng(0).integers(
    0, target.config.vocab_size, (8, _PROMPT)
  )
  difference = largest_difference(target, theirs, prompts[:2])
  runners = {
    'listcoupling': lambda *x: _ours(target, drafter, new_tokens, *x),
    'transformers': lambda *x: _theirs(theirs, assistant, new_tokens, *x),
  }
  figures = np.zeros((len(todo), rounds, 3))
  with tqdm.tqdm(total=len(todo) * (rounds + 1), desc=size) as bar:
    for turn in range(rounds + 1):  # the first one warms up
      for place, setting in enumerate(todo):
        bar.set_postfix_str(f'{setting.method}, batch {setting.batch}')
        own = prompts[: setting.batch]
        figure = runners[setting.library](setting, own, turn)
        if turn:
          figures[place, turn - 1] = figure
        bar.update()
  return {
    'figures': figures,
    'parameters': sum(x.size for x in jax.tree.leaves(target.params)),
    'new_tokens': new_tokens,
    'rounds': rounds,
    'logit_difference': difference,
    'overlap': overlap(target, drafter, prompts),
  }


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


def summarize(figures: Mapping[Setting, np.ndarray], about: dict) -> list[dict]:
  """Medians, and ratios to the fastest setting of transformers.

  Args:
    figures: [rounds, 3] of every setting.
    about: columns that all rows share.
  """
  median = {s: float(np.median(runs[:, 0])) for s, runs in figures.items()}

  def best(batch, start):
    rates = [
      rate
      for s, rate in median.items()
      if s.library == 'transformers'
      and s.batch == batch
      and s.method.startswith(start)
    ]
    return max(rates, default=None)

  rows = []
  for setting, runs in figures.items():
    assisted = best(setting.batch, 'assisted')
    rows.append(
      about
      | setting._asdict()
      | {
        'tokens_per_second': median[setting],
        'slowest': float(runs[:, 0].min()),
        'fastest': float(runs[:, 0].max()),
        'decode_tokens_per_second': float(np.median(runs[:, 1])),
        'block_efficiency': float(runs[:, 2].mean()),
        'to_sampling': median[setting] / best(setting.batch, 'sampling'),
        'to_assisted': assisted and median[setting] / assisted,
      }
    )
  return rows


def _check_libraries() -> None:
  try:
    import torch  # noqa: F401
    import transformers
  except ImportError as error:
    raise ImportError(
      'The comparison needs torch and transformers: pip install -e '
      "'.[baselines]'."
    ) from error
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()


def _load(directory):
  """A checkpoint as transformers loads it, float32, ready to sample."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )
  return model.eval()


def _logits(model, tokens: np.ndarray) -> np.ndarray:
  """[B, S, V] of whole sequences [B, S]."""
  import torch

  with torch.no_grad():
    return model(torch.tensor(tokens)).logits.numpy()


@contextlib.contextmanager
def _counted(model):
  """Yields a list of the times at which a forward of `model` ended."""
  calls = []
  handle = model.register_forward_hook(
    lambda *_: calls.append(time.perf_counter())
  )
  try:
    yield calls
  finally:
    handle.remove()


@contextlib.contextmanager
def _threads(count: int):
  """Runs torch's kernels on `count` threads."""
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
  ids = torch.tensor(prompts)
  torch.manual_seed(seed)
  with _threads(setting.threads), _counted(model) as calls, torch.no_grad():
    began = time.perf_counter()
    out = model.generate(
      ids,
      attention_mask=torch.ones_like(ids),
      generation_config=options,
      **extra,
    )
    ended = time.perf_counter()
  count = out.shape[0] * (out.shape[1] - ids.shape[1])
  return Figure(
    count / (ended - began),
    count / (ended - calls[0]),
    (out.shape[1] - ids.shape[1]) / len(calls),
  )
