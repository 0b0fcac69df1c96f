"""Against the transformers library: the same checkpoints, machine and run.

Both libraries load the same two directories, a random target and a drafter
made of its first layers, in float32, and sample without any filter. Plain
sampling, speculative decoding at batch 1 (there: assisted generation) and at
batch 8 (there: none). Every time is the median of rounds in which all
settings take turns, after one run that compiles here and warms up there. A
time is that of the whole call, from token ids to token ids; beside it stands
the rate once the prompt is read.
"""

import os
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import auto as tqdm

from listcoupling.decoding.generate import generate
from listcoupling.decoding.options import GenerateOptions
from listcoupling.experiments import (
  peer_checkpoints,
  peer_library,
  peer_rows,
  results,
)
from listcoupling.models import pretrained, transformer

SIZES = peer_checkpoints.SIZES
_PROMPT = 24
_EFFORT = {'100M': (48, 3)}  # new tokens per row, timed rounds


class Setting(NamedTuple):
  """One line of the table."""

  library: str
  method: str
  batch: int
  threads: int  # of torch; XLA takes all cores
  num_drafts: int


class Figure(NamedTuple):
  """What one generation gives."""

  rate: float  # tokens per second of the whole call, prompt included
  decode_rate: float  # the same once the prompt is read
  block_efficiency: float


def settings(cores: int) -> list[Setting]:
  """What is compared: theirs on one and on all cores, then ours."""
  rows = []
  for threads in sorted({1, cores}):
    plain = [Setting('transformers', 'sampling', b, threads, 0) for b in (1, 8)]
    assisted = [
      Setting('transformers', name, 1, threads, 1)
      for name in peer_library.ASSISTED
    ]
    rows += [plain[0], *assisted, plain[1]]
  ours = [('autoregressive', 0), ('single', 1), ('gumbel_tree', 1)]
  ours.append(('gumbel_tree', 4))
  return rows + [
    Setting('listcoupling', method, batch, cores, drafts)
    for batch in (1, 8)
    for method, drafts in ours
  ]


class _Here:
  """Both models as this library loads them."""

  def __init__(self, folders, new_tokens):
    self.target, self.drafter = map(pretrained.load_pretrained, folders)
    self.new_tokens = new_tokens

  def run(self, setting: Setting, prompts, seed: int):
    """The `Figure` of one generation."""
    options = GenerateOptions(
      method=setting.method,
      num_drafts=max(setting.num_drafts, 1),
      draft_length=4,
      max_new_tokens=self.new_tokens,
    )
    began = time.perf_counter()
    figures = generate(
      jax.random.key(seed),
      self.target,
      [self.drafter],
      prompts,
      np.full(len(prompts), prompts.shape[1]),
      options,
    ).metrics
    rate = len(prompts) * self.new_tokens / (time.perf_counter() - began)
    efficiency = float(figures.block_efficiency.mean())
    return Figure(rate, figures.tokens_per_second, efficiency)


class _There:
  """Both models as transformers loads them."""

  def __init__(self, folders, new_tokens):
    self.target, self.drafter = map(peer_library.load, folders)
    self.new_tokens = new_tokens

  def run(self, setting: Setting, prompts, seed: int):
    """The `Figure` of one generation."""
    drafts = peer_library.ASSISTED.get(setting.method)
    with peer_library.threads(setting.threads):
      run = peer_library.sample(
        self.target,
        prompts,
        self.new_tokens,
        seed,
        assistant=self.drafter if drafts else None,
        drafts=drafts,
      )
    rates = (run.tokens.size / s for s in (run.seconds, run.after_prompt))
    return Figure(*rates, run.tokens.shape[1] / run.target_calls)


def tables(sizes: Sequence[str], folder) -> list[dict]:
  """Compares both libraries, one size after the other.

  Args:
    sizes: of `peer_checkpoints.NAMES`.
    folder: for peers.csv, written after every size (rows of other sizes that
      ran on the same machine and versions stay), peers.json and the
      checkpoints.

  Returns:
    All rows of peers.csv, see `table`.

  Raises:
    ValueError: unknown size, or JAX does not run on the CPU.
    ImportError: torch or transformers is not installed.
  """
  folder = pathlib.Path(folder)
  for size in sizes:
    if size not in peer_checkpoints.NAMES:
      raise ValueError(
        f'size must be one of {peer_checkpoints.NAMES}, got {size!r}.'
      )
  peer_rows.check_backend()
  path, rows = folder / 'peers.csv', []
  for size in sizes:
    new_tokens, rounds = _EFFORT.get(size, (96, 5))
    new = table(size, folder, new_tokens=new_tokens, rounds=rounds)
    rows = peer_rows.kept(path, size, peer_rows.stamp()) + new
    results.write_csv(path, rows)
  about = results.environment() | peer_library.versions()
  about['drafter'] = 'first layers of the target, same embeddings and head'
  about['draft_layers'] = peer_checkpoints.DRAFT_LAYERS
  results.write_json(folder / 'peers.json', about)
  return rows


def table(
  size: str, folder, *, new_tokens: int = 96, rounds: int = 5
) -> list[dict]:
  """Compares both libraries on one size.

  Args:
    size: of `peer_checkpoints.NAMES`.
    folder: where the checkpoints go.
    new_tokens: M, per row.
    rounds: timed runs of each setting, in turns.

  Returns:
    One row per setting with the median, least and largest tokens per second,
    the block efficiency and ratios to the best figures of transformers at the
    same batch; at batch 1 to assisted generation, too. `overlap` is that of
    drafter and target on the prompts, `stamp` what it ran on.

  Raises:
    ValueError: unknown size, JAX not on the CPU, or logits that differ by more
      than 1e-3.
    ImportError: torch or transformers is not installed.
  """
  peer_rows.check_backend()
  folders = peer_checkpoints.write(size, pathlib.Path(folder))
  sides = dict(
    transformers=_There(folders, new_tokens),
    listcoupling=_Here(folders, new_tokens),
  )
  ours = sides['listcoupling']
  target = ours.target
  prompts = np.random.default_rng(0).integers(
    0, target.config.vocab_size, (8, _PROMPT)
  )
  difference = _difference(sides, prompts)
  todo = settings(os.cpu_count())
  figures = {setting: [] for setting in todo}
  with tqdm.tqdm(total=len(todo) * (rounds + 1), desc=size) as bar:
    for turn in range(rounds + 1):  # the first one warms up
      for setting in todo:
        bar.set_postfix_str(f'{setting.method}, batch {setting.batch}')
        own = prompts[: setting.batch]
        figure = sides[setting.library].run(setting, own, turn)
        figures[setting] += [figure] if turn else []
        bar.update()
  count = sum(leaf.size for leaf in jax.tree.leaves(target.params))
  about = dict(
    size=size,
    parameters=count,
    new_tokens=new_tokens,
    rounds=rounds,
    logit_difference=difference,
    overlap=peer_checkpoints.overlap(target, ours.drafter, prompts),
    stamp=peer_rows.stamp(),
  )
  return peer_rows.summary(figures, about)


def _difference(sides, prompts) -> float:
  """Largest difference of the logits, so that equals are compared."""
  ours = sides['listcoupling'].target
  logits = jax.jit(transformer.causal_logits, static_argnums=0)(
    ours.config, ours.params, prompts[:2]
  )
  theirs = peer_library.logits(sides['transformers'].target, prompts[:2])
  worst = float(np.abs(logits - theirs).max())
  if not worst < 1e-3:
    raise ValueError(
      f'logits differ by {worst} between the libraries; this is a bug, no '
      'figure would mean anything.'
    )
  return worst
