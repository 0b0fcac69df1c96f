"""Trains a small language model, alone or distilled from a larger one.

AdamW with clipping and a warmup-cosine schedule on windows of text drawn by
`fold_in(key, step)`, so step n is the same whether or not the run was stopped
before it. A drafter learns from its target: cross-entropy on the text mixed
with KL(target || drafter), as in DistillSpec (Zhou et al., arXiv 2310.08461,
forward KL). What counts for a drafter is the overlap sum_i min(p_i, q_i)
= 1 - TV with its target, which bounds the acceptance of a single draft.

Legend: B batch, S window length, T tokens of text, V vocabulary.
"""

import json
import os
import pathlib
import platform
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import orbax.checkpoint as ocp
import tensorboardX
import tokenizers
from tqdm import tqdm

from listcoupling.data import text
from listcoupling.decoding import language_model
from listcoupling.models import pretrained, transformer

_POSITIVE = (
  'sequence_length batch_size num_steps eval_every eval_windows '
  'checkpoint_every learning_rate'
).split()


class TrainState(NamedTuple):
  """What the next step needs."""

  params: Any
  opt_state: Any


class Result(NamedTuple):
  """A trained model and what is known about it.

  Attributes:
    model: float32 parameters, tokenizer included.
    record: dict written to record.json: losses, text, versions, times.
  """

  model: language_model.LanguageModel
  record: dict


def check_config(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError for settings that make no sense."""
  for name in _POSITIVE:
    if config[name] <= 0:
      raise ValueError(f'{name} must be positive, got {config[name]}.')
  if not 0.0 <= config.distillation <= 1.0:
    raise ValueError(
      f'distillation is a share in [0, 1], got {config.distillation}.'
    )
  if config.distillation > 0 and not config.teacher:
    raise ValueError(
      f'distillation is {config.distillation} but teacher is empty; give the '
      'directory of the target model or set distillation to 0.'
    )
  if config.warmup_steps >= config.num_steps:
    raise ValueError(
      f'warmup_steps must be below num_steps, got {config.warmup_steps} and '
      f'{config.num_steps}.'
    )


def make_optimizer(config) -> optax.GradientTransformation:
  """Clipping, then AdamW; norms and biases are not decayed."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0,
    config.learning_rate,
    config.warmup_steps,
    config.num_steps,
    0.05 * config.learning_rate,
  )
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      schedule,
      b2=0.98,
      weight_decay=config.weight_decay,
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    ),
  )


def sample_windows(
  key: jax.Array, tokens: jax.Array, batch: int, length: int
) -> jax.Array:
  """Uniform windows of a token row: [T] -> [B, S]."""
  starts = jax.random.randint(key, (batch,), 0, tokens.shape[0] - length + 1)
  return tokens[starts[:, None] + jnp.arange(length)]


def loss_and_metrics(config, params, windows, teacher):
  """Mean loss over the S tokens after the first of each window.

  Args:
    config: with `distillation`, the share of the KL term.
    params: of the model being trained; first of a pair (model config, params).
    windows: [B, S + 1] int32.
    teacher: None, or (its TransformerConfig, its parameters).

  Returns:
    loss [] in nats per token, and metrics: `cross_entropy`, and with a teacher
    `kl` and `overlap` (mean of sum_i min(p_i, q_i)).
  """
  model_config, weights = params
  inputs, labels = windows[:, :-1], windows[:, 1:]
  logits = transformer.causal_logits(model_config, weights, inputs)
  log_p = jax.nn.log_softmax(logits)  # [B, S, V]
  picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1)
  metrics = {'cross_entropy': -jnp.mean(picked)}
  if teacher is None:
    return metrics['cross_entropy'], metrics
  teacher_logits = transformer.causal_logits(*teacher, inputs)
  log_q = jax.nn.log_softmax(teacher_logits)
  q = jnp.exp(log_q)
  metrics['kl'] = jnp.mean(jnp.sum(q * (log_q - log_p), axis=-1))
  metrics['overlap'] = jnp.mean(jnp.sum(jnp.minimum(q, jnp.exp(log_p)), -1))
  share = config.distillation
  loss = share * metrics['kl'] + (1 - share) * metrics['cross_entropy']
  return loss, metrics


def make_steps(config, model_config, teacher_config=None):
  """Jitted (train, evaluate).

  Args:
    config: see `check_config`.
    model_config: TransformerConfig of the model being trained.
    teacher_config: of the teacher, or None.

  Returns:
    train(state, tokens [T], key, step, teacher_params) -> (state, metrics) and
    evaluate(params, windows [B, S + 1], teacher_params) -> metrics.
  """
  optimizer = make_optimizer(config)

  def loss_fn(params, windows, teacher_params):
    teacher = teacher_config and (teacher_config, teacher_params)
    return loss_and_metrics(config, (model_config, params), windows, teacher)

  @jax.jit
  def train(state, tokens, key, step, teacher_params):
    windows = sample_windows(
      jax.random.fold_in(key, step),
      tokens,
      config.batch_size,
      config.sequence_length + 1,
    )
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, windows, teacher_params
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics['gradient_norm'] = optax.tree.norm(grads)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state), metrics

  @jax.jit
  def evaluate(params, windows, teacher_params):
    return loss_fn(params, windows, teacher_params)[1]

  return train, evaluate


def held_out_windows(tokens: np.ndarray, config) -> np.ndarray:
  """Evenly spaced windows [W, B, S + 1] of the held-out text, W batches."""
  length = config.sequence_length + 1
  batches = -(-config.eval_windows // config.batch_size)
  last = len(tokens) - length
  starts = np.linspace(0, last, batches * config.batch_size).astype(int)
  windows = tokens[starts[:, None] + np.arange(length)]
  return windows.reshape(batches, config.batch_size, length)


def _mean_metrics(evaluate, params, windows, teacher_params) -> dict:
  rows = [evaluate(params, batch, teacher_params) for batch in windows]
  return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _load_text(config, workdir: pathlib.Path, tokenizer):
  """(Corpus, tokenizer, training tokens [T], held-out tokens [T'])."""
  corpus = text.load_corpus(
    config.data, held_out_fraction=config.held_out_fraction
  )
  path = workdir / 'tokenizer.json'
  if path.exists():
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
  elif tokenizer is None:
    texts = (document.text for document in corpus.train)
    tokenizer = text.train_tokenizer(texts, config.model.vocab_size)
  train = text.encode_documents(tokenizer, corpus.train)
  held_out = text.encode_documents(tokenizer, corpus.held_out)
  for name, row in (('training', train), ('held-out', held_out)):
    if len(row) <= config.sequence_length:
      raise ValueError(
        f'The {name} text has {len(row)} tokens, fewer than '
        f'sequence_length + 1 = {config.sequence_length + 1}; give more text '
        'or a shorter sequence_length.'
      )
  return corpus, tokenizer, train, held_out


def _open_workdir(config, workdir: pathlib.Path, tokenizer) -> None:
  """Keeps settings and tokenizer, or refuses to resume a run of others.

  The number of steps may change: the schedule then follows the new one.
  """
  path = workdir / 'train_config.json'
  wanted = json.loads(config.to_json())
  kept = json.loads(path.read_text()) if path.exists() else wanted
  changed = [
    name
    for name in sorted(kept.keys() | wanted.keys())
    if kept.get(name) != wanted.get(name) and name != 'num_steps'
  ]
  if changed:
    raise ValueError(
      f'{workdir} holds a run with other settings of {changed}; resume with '
      'the same settings or choose another --workdir.'
    )
  workdir.mkdir(parents=True, exist_ok=True)
  beside = workdir / 'tokenizer.json.part'
  tokenizer.save(str(beside))
  os.replace(beside, workdir / 'tokenizer.json')
  _write_json(path, wanted)


def _write_json(path: pathlib.Path, value) -> None:
  beside = path.with_name(path.name + '.part')
  beside.write_text(json.dumps(value, indent=2) + '\n')
  os.replace(beside, path)


def _checkpoints(config, workdir):
  return ocp.CheckpointManager(
    (workdir / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(max_to_keep=2),
  )


def _run(config, workdir, manager, steps, state, tokens, windows, teacher):
  """The loop: resume, step, log, evaluate, keep. Returns (state, history)."""
  train, evaluate = steps
  first = manager.latest_step() or 0
  if first:
    restore = ocp.args.StandardRestore(state)
    state = manager.restore(first, args=restore)
  path = workdir / 'history.json'
  history = json.loads(path.read_text()) if path.exists() else []
  history = [row for row in history if row['step'] <= first]
  key = jax.random.key(config.seed)
  progress = tqdm(
    range(first, config.num_steps), initial=first, total=config.num_steps
  )
  begin = time.monotonic() - (history[-1]['seconds'] if history else 0.0)
  with tensorboardX.SummaryWriter(
    str(workdir / 'events'), purge_step=first
  ) as writer:
    for step in progress:
      state, metrics = train(state, tokens, key, step, teacher)
      done = step + 1
      if done % config.eval_every == 0 or done == config.num_steps:
        row = _mean_metrics(evaluate, state.params, windows, teacher)
        progress.set_postfix({k: f'{v:.3f}' for k, v in row.items()})
        for name, value in row.items():
          writer.add_scalar(f'held_out/{name}', value, done)
        for name, value in metrics.items():
          writer.add_scalar(f'train/{name}', float(value), done)
        seconds = round(time.monotonic() - begin, 1)
        trained = float(metrics['cross_entropy'])
        row |= {'step': done, 'seconds': seconds, 'train': trained}
        history.append(row)
        _write_json(path, history)
      if done % config.checkpoint_every == 0 or done == config.num_steps:
        manager.save(done, args=ocp.args.StandardSave(state))
  manager.wait_until_finished()
  return state, history


def _make_record(corpus, train_tokens, held_out, state, history) -> dict:
  """What is known of a finished run."""
  held_out_bytes = sum(len(d.text.encode()) for d in corpus.held_out)
  return {
    'held_out': history[-1],
    'bytes_per_token': held_out_bytes / len(held_out),
    'train_tokens': len(train_tokens),
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'text': corpus.record,
    'versions': {'python': platform.python_version(), 'jax': jax.__version__},
    'history': history,
  }


def _load_teacher(config, model_config):
  """The LanguageModel to distil from, or None."""
  if not config.teacher:
    return None
  teacher = pretrained.load_pretrained(config.teacher)
  if teacher.config.vocab_size != model_config.vocab_size:
    raise ValueError(
      f"model.vocab_size is {model_config.vocab_size}, the teacher's is "
      f'{teacher.config.vocab_size}; they must be equal.'
    )
  return teacher


def train_and_evaluate(config: ml_collections.ConfigDict, workdir) -> Result:
  """Trains to `config.num_steps`, resuming what `workdir` holds.

  Args:
    config: as in configs/lm_target.py.
    workdir: folder for checkpoints/, events/ (TensorBoard), tokenizer.json,
      train_config.json, history.json, record.json.

  Returns:
    Result.

  Raises:
    ValueError: settings that make no sense, too little text, a workdir of
      another run, a teacher with another vocabulary.
    FileNotFoundError: text or teacher are missing.

  Example:
    >>> from configs import lm_target
    >>> config = lm_target.get_config()
    >>> result = train_and_evaluate(config, 'runs/lm')  # doctest: +SKIP
  """
  check_config(config)
  model_config = transformer.TransformerConfig(**config.model)
  teacher = _load_teacher(config, model_config)
  workdir = pathlib.Path(workdir)
  corpus, tokenizer, train_tokens, held_out = _load_text(
    config, workdir, teacher and teacher.tokenizer
  )
  _open_workdir(config, workdir, tokenizer)
  params = transformer.init_params(
    jax.random.fold_in(jax.random.key(config.seed), 2**31), model_config
  )
  state = TrainState(params, make_optimizer(config).init(params))
  with _checkpoints(config, workdir) as manager:
    state, history = _run(
      config,
      workdir,
      manager,
      make_steps(config, model_config, teacher and teacher.config),
      state,
      jnp.asarray(train_tokens),
      held_out_windows(held_out, config),
      teacher and teacher.params,
    )
  record = _make_record(corpus, train_tokens, held_out, state, history)
  _write_json(workdir / 'record.json', record)
  model = transformer.make_language_model(model_config, state.params, tokenizer)
  return Result(model, record)
