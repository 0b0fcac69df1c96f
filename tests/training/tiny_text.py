"""A few lines of text and settings that learn them in seconds."""

import numpy as np

from configs import lm_target

WORDS = 'the race of all arrival times is won by the first of them'.split()


def write_text(path):
  rng = np.random.default_rng(0)
  lines = [' '.join(rng.choice(WORDS, 8)) for _ in range(400)]
  path.write_text('\n'.join(lines))
  return path


def small_config(path):
  """One layer, one file, 30 steps."""
  config = lm_target.get_config()
  config.update(
    data=(str(path),),
    sequence_length=16,
    batch_size=4,
    num_steps=30,
    warmup_steps=2,
    learning_rate=1e-2,
    eval_every=15,
    eval_windows=8,
    checkpoint_every=10,
    log_every=5,
  )
  config.model.update(
    vocab_size=280,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    intermediate_size=24,
  )
  return config
