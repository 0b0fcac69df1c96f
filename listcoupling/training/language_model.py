"""Trains a small language model, alone or distilled from a larger one.

AdamW with clipping and a warmup-cosine schedule on windows of text drawn from
the key of their step, so step n is the same whether or not the run was stopped
before it. The model that comes out is that of the last step, where the
learning rate has come down; `record.json` names the best evaluation too.

Losses and distillation: `listcoupling.training.losses`. Files of a run:
`listcoupling.training.run_folder`. Sources: `listcoupling.data.sources`.

Legend: B batch, S window length, T tokens of text.
"""

import functools
import math
import pathlib
import platform
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from listcoupling import files, gumbel, together, workdirs
from listcoupling.data import text
from listcoupling.decoding import language_model, placement
from listcoupling.models import sharding, transformer
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import inputs, losses, run_folder

# Numbers of every row of history.json; with a teacher there are more.
_IN_HISTORY = ('seconds', 'cross_entropy', 'train')


class TrainState(NamedTuple):
  """Carried from step to step."""

  params: Any
  opt_state: Any


class Result(NamedTuple):
  """A trained model and what is known about it.

  Attributes:
    model: float32 parameters of the last step, tokenizer included.
    record: dict written to record.json: losses, text, versions, times.
  """

  model: language_model.LanguageModel
  record: dict


class Job(NamedTuple):
  """Constants of a run: settings, tokens, teacher."""

  config: ml_collections.ConfigDict
  folder: pathlib.Path
  tokens: jax.Array  # [T] int32
  windows: np.ndarray  # [W, B, S + 1] int32, held out
  teacher_params: Any  # or None
  key: jax.Array
  mesh: Mesh | None


def make_schedule(config) -> optax.Schedule:
  """Linear warmup, then a cosine down to a twentieth."""
  return optax.warmup_cosine_decay_schedule(
    0.0,
    config.learning_rate,
    config.warmup_steps,
    config.num_steps,
    0.05 * config.learning_rate,
  )


def make_optimizer(config) -> optax.GradientTransformation:
  """Clipping, then AdamW; norms and biases are not decayed."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      make_schedule(config),
      b2=0.98,
      weight_decay=config.weight_decay,
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    ),
  )


def init_state(key: jax.Array, config, model_config) -> TrainState:
  """The state before the first step; `key` is that of the whole run."""
  init_key = gumbel.domain_key(key, gumbel.Domain.MODEL_INIT)
  params = transformer.init_params(init_key, model_config)
  return TrainState(params, make_optimizer(config).init(params))


def state_places(config, model_config, mesh: Mesh) -> TrainState:
  """Where a state lies: parameters and moments over 'fsdp' and 'tp'.

  Args:
    config: of the run.
    model_config: of the model being trained.
    mesh: in the standard form of `placement`.

  Returns:
    A tree of shardings.

  Raises:
    ValueError: for a batch or sizes that the mesh does not divide.
  """
  run_folder.check_batch(config.batch_size, mesh)
  shapes = jax.eval_shape(
    lambda: init_state(gumbel.seed_key(0), config, model_config)
  )
  specs = sharding.specs(shapes, sharding.shared_sizes(model_config, mesh))
  return jax.tree.map(functools.partial(NamedSharding, mesh), specs)


def make_steps(config, model_config, teacher_config=None, places=None):
  """Jitted (train, evaluate).

  Args:
    config: see `inputs.check_settings`.
    model_config: TransformerConfig of the model being trained.
    teacher_config: of the teacher, or None.
    places: of the state on a mesh, see `state_places`; 'data' and 'fsdp' then
      share the windows of a batch.

  Returns:
    train(state, tokens [T], key, step, teacher_params) -> (state, metrics),
    which takes the memory of the old state for the new one,
    and evaluate(params, teacher_params, windows [B, S + 1]) -> metrics.
  """
  optimizer = make_optimizer(config)
  mesh = places and jax.tree.leaves(places)[0].mesh
  whole = mesh and NamedSharding(mesh, PartitionSpec())

  def loss_fn(params, windows, teacher_params):
    teacher = teacher_config and (teacher_config, teacher_params)
    student = (model_config, params)
    return losses.loss_and_metrics(
      config.distillation, student, windows, teacher, mesh
    )

  @functools.partial(
    jax.jit, donate_argnums=0, out_shardings=places and (places, whole)
  )
  def train(state, tokens, key, step, teacher_params):
    key = gumbel.domain_key(key, gumbel.Domain.TRAINING_STEP, step)
    windows = losses.sample_windows(
      key, tokens, config.batch_size, config.sequence_length + 1
    )
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, windows, teacher_params
    )
    with jax.numpy_dtype_promotion('standard'):  # optax mixes types
      updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params
      )
      metrics['gradient_norm'] = optax.tree.norm(grads)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state), metrics

  @functools.partial(jax.jit, out_shardings=whole)
  def evaluate(params, teacher_params, windows):
    return loss_fn(params, windows, teacher_params)[1]

  return train, evaluate


def _log(board, name: str, values: dict, step: int) -> dict[str, float]:
  """Writes scalars to TensorBoard and returns them as floats."""
  values = {key: float(value) for key, value in values.items()}
  board.scalars({f'{name}/{key}': x for key, x in values.items()}, step)
  loss = values.get('cross_entropy', 0.0)
  if not math.isfinite(loss):
    raise FloatingPointError(
      f'The loss at step {step} is {loss}; resume from the last checkpoint '
      'in a new --workdir with a lower learning_rate or clip_norm.'
    )
  return values


def _held_out(job: Job, evaluate, state: TrainState, board, done: int):
  """Figures of the weights after a step on text that was held out."""
  run = functools.partial(evaluate, state.params, job.teacher_params)
  means = losses.mean_metrics(run, job.windows)
  return _log(board, 'held_out', means, done) | {'step': done}


def _run(job: Job, manager, steps, first: int, state: TrainState):
  """The loop: step, log, evaluate, keep. Returns (state, history)."""
  config, (train, evaluate) = job.config, steps
  history = run_folder.read_history(job.folder, first, _IN_HISTORY)
  schedule, leads = make_schedule(config), together.leads()
  begin = time.monotonic() - (history[-1]['seconds'] if history else 0.0)
  last = config.num_steps
  if first < last and leads:  # it tells of the run as it was after fewer steps
    (job.folder / 'record.json').unlink(missing_ok=True)
  progress = tqdm(
    range(first, last), initial=first, total=last, disable=not leads
  )
  with (
    run_folder.Events(job.folder / 'events' if leads else None, first) as board,
    run_folder.stopping(manager, job.mesh) as keep,
  ):
    for step in progress:
      state, metrics = train(
        state, job.tokens, job.key, step, job.teacher_params
      )
      done = step + 1
      evaluates = done % config.eval_every == 0 or done == last
      if evaluates or done % config.log_every == 0:
        metrics['learning_rate'] = schedule(step)
        metrics = _log(board, 'train', metrics, done)
        progress.set_postfix(loss=f'{metrics["cross_entropy"]:.3f}')
      if evaluates:
        row = _held_out(job, evaluate, state, board, done)
        row['seconds'] = round(time.monotonic() - begin, 1)
        history.append(row | {'train': metrics['cross_entropy']})
        if leads:
          files.write_json(job.folder / 'history.json', history)
          progress.write(f'step {done}: held-out {row["cross_entropy"]:.4f}')
      if done % config.checkpoint_every == 0 or done == last:
        run_folder.save(manager, done, state)
      keep(done, state)
  _check_history(job.folder, history, last)
  return state, history


def _check_history(folder: pathlib.Path, history: list[dict], last: int):
  if not history or history[-1]['step'] != last:
    raise ValueError(
      f'{folder / "history.json"} lacks the row of step {last}, though its '
      'checkpoint is there; restore it, or choose another --workdir.'
    )


def _make_record(texts: inputs.Texts, params, history, train) -> dict:
  """Figures of a finished run; `train` are means on training text."""
  corpus = texts.corpus
  held_out_bytes = sum(len(d.text.encode()) for d in corpus.held_out)
  return {
    'held_out': history[-1],  # of the weights that are returned
    'train': train,
    'best': min(history, key=lambda row: row['cross_entropy']),
    'bytes_per_token': held_out_bytes / len(texts.held_out),
    'train_tokens': len(texts.train),
    'parameters': sum(x.size for x in jax.tree.leaves(params)),
    'text': corpus.record,
    'versions': {'python': platform.python_version(), 'jax': jax.__version__},
    'history': history,
  }


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir, *, mesh: Mesh | None = None
) -> Result:
  """Trains to `config.num_steps`, resuming what `workdir` holds.

  A run that was stopped and resumed ends with the same bits as one that was
  not, on the same machine and software.

  Args:
    config: as in configs/lm_target.py.
    workdir: folder of the run, see `listcoupling.training.run_folder`.
    mesh: devices that share the work, with axes 'data' and 'fsdp' (the batch;
      'fsdp' also parameters and moments) and 'tp'. On several processes each
      makes the same call and sees the same workdir. A run may go on on another
      mesh than it began on.

  Returns:
    Result.

  Raises:
    ValueError: settings that make no sense, too little text, a workdir of
      another run, text or teacher, a teacher with another vocabulary or
      tokenizer, a mesh that does not fit, processes with different arguments.
    FileNotFoundError: text, tokenizer or teacher are missing.
    FloatingPointError: the loss is no longer finite.
    KeyboardInterrupt: Ctrl-C or SIGTERM, once the last step is saved.

  Example:
    >>> from configs import lm_target
    >>> config = lm_target.get_config()
    >>> result = train_and_evaluate(config, 'runs/lm')  # doctest: +SKIP
  """
  with together.agreed() as agree:
    mesh = run_folder.check_mesh(mesh)
    inputs.check_settings(config)
    teacher = inputs.load_teacher(config, mesh)
    folder = workdirs.as_folder(workdir)
    texts = inputs.load_texts(config, folder, teacher)
    model_config = _model_config(config, texts)
    places = mesh and state_places(config, model_config, mesh)
    tokenizer = texts.tokenizer.to_str(pretty=True)
    agree(config=config.to_json(), tokenizer=tokenizer, mesh=mesh)
  with workdirs.held(folder):
    _open_folder(config, folder, texts, teacher, tokenizer)
    job = _job(config, folder, texts, teacher, mesh)
    init = functools.partial(init_state, job.key, config, model_config)
    steps = make_steps(config, model_config, teacher and teacher.config, places)
    with run_folder.checkpoints(folder) as manager:
      begun = run_folder.begin(manager, init, places)
      state, history = _run(job, manager, steps, *begun)
    run = functools.partial(steps[1], state.params, job.teacher_params)
    train = losses.mean_metrics(run, losses.even_windows(texts.train, config))
    record = _make_record(texts, state.params, history, train)
    if together.leads():
      files.write_json(folder / 'record.json', record)
  model = transformer.make_language_model(
    model_config, state.params, texts.tokenizer
  )
  return Result(model, record)


def _open_folder(config, folder, texts: inputs.Texts, teacher, tokenizer):
  """Checks what the folder holds and keeps there what the run is of."""
  with together.agreed() as agree:
    origin = inputs.origin(texts, teacher)  # all of a teacher's shards
    run_folder.check_folder(config, folder, origin)
    agree(origin=origin)
  with together.agreed() as agree:
    if together.leads():
      run_folder.open_folder(config, folder, tokenizer, origin)
    agree(folder='open')


def _model_config(config, texts: inputs.Texts):
  end = texts.tokenizer.token_to_id(text.END_OF_TEXT)
  return TransformerConfig(**config.model, stop_tokens=(end,))


def _job(config, folder, texts: inputs.Texts, teacher, mesh) -> Job:
  """The constants of a run, on the devices."""
  windows = losses.even_windows(texts.held_out, config)
  tokens, key = jnp.asarray(texts.train), gumbel.seed_key(config.seed)
  known = teacher and teacher.params
  if mesh is not None:
    tokens, key = placement.put(
      (tokens, key), NamedSharding(mesh, PartitionSpec())
    )
  return Job(config, folder, tokens, windows, known, key, mesh)
