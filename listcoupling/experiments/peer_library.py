"""Sampling with the transformers library, timed; needs the `peers` extra.

Every law is plain: temperature 1, no top-k, no top-p, no stop token, so that
both libraries write the same number of tokens from the same law.
"""

import contextlib
import time
from importlib import metadata
from typing import NamedTuple

import numpy as np

# Drafts per block of assisted generation: ours, and the library's own choice
# (20, ended early where the drafter's confidence falls under 0.4).
ASSISTED = {'assisted, L=4': (4, 0.0), 'assisted, default': (20, 0.4)}


class Run(NamedTuple):
  """One timed generation."""

  seconds: float  # the whole call
  after_prompt: float  # of them after the target's first forward
  tokens: np.ndarray  # [B, M]
  target_calls: int


def load(directory):
  """A checkpoint as transformers loads it, float32, ready to sample.

  Raises:
    ImportError: torch or transformers is not installed.
  """
  try:
    import torch
    import transformers
  except ImportError as error:
    raise ImportError(
      "The comparison needs torch and transformers: pip install -e '.[peers]'."
    ) from error
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )
  return model.eval()


def versions() -> dict[str, str]:
  """Versions of what is compared with."""
  return {name: metadata.version(name) for name in ('torch', 'transformers')}


def logits(model, tokens: np.ndarray) -> np.ndarray:
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
def threads(count: int):
  """Runs torch's kernels on `count` threads."""
  import torch

  before = torch.get_num_threads()
  torch.set_num_threads(count)
  try:
    yield
  finally:
    torch.set_num_threads(before)


def sample(
  model,
  prompts: np.ndarray,
  new_tokens: int,
  seed: int,
  *,
  assistant=None,
  drafts: tuple[int, float] | None = None,
) -> Run:
  """Samples `new_tokens` per row.

  Args:
    model: of `load`.
    prompts: [B, P] without padding; B = 1 with an assistant.
    new_tokens: M.
    seed: of torch.
    assistant: the drafter of assisted generation.
    drafts: its tokens per block and confidence threshold.

  Returns:
    The `Run`.
  """
  import torch
  import transformers

  ids = torch.tensor(prompts)
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
  if assistant is not None:
    own = assistant.generation_config
    own.num_assistant_tokens, own.assistant_confidence_threshold = drafts
    own.num_assistant_tokens_schedule = 'constant'
    extra['assistant_model'] = assistant
  torch.manual_seed(seed)
  with _counted(model) as calls, torch.no_grad():
    began = time.perf_counter()
    out = model.generate(
      ids,
      attention_mask=torch.ones_like(ids),
      generation_config=options,
      **extra,
    )
    ended = time.perf_counter()
  new = out[:, ids.shape[1] :].numpy()
  return Run(ended - began, ended - calls[0], new, len(calls))
