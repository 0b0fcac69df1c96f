"""Training of the beta-VAE and of the estimator that its decoders need.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, appendix: |a - g(w, t)|^2 +
beta KL(q(w | a) | N(0, I)), summed over pixels; Adam 1e-3 with betas .9 and
.99, batches of 64. The estimator learns

*   "bce" (paper): joint pairs (w, t) against pairs of another image, the
    product of the marginals; its optimum is log p(w | t) / p(w); or
*   "contrastive": which of M + 1 latents belongs to t, the others drawn from
    the prior. Its optimum is p(w | t) / prior(w) times a factor of t: the race
    weight itself, whether or not the aggregate posterior has reached the
    prior.

Step s draws from its own key: a resumed run is the run not interrupted.

Legend: B batch, R images, N latents of an image, D latent size, [h, w] crop.
"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from listcoupling import files, gumbel, together, workdirs
from listcoupling.data import images as image_data
from listcoupling.data import side_information
from listcoupling.decoding import placement
from listcoupling.models import vae
from listcoupling.training import run_folder

if TYPE_CHECKING:
  import ml_collections

ESTIMATOR_LOSSES = ('bce', 'contrastive')
_METRICS = ('mse', 'kl_bits', 'estimator_loss', 'side_only_mse')
_CALL = 25  # steps of one compiled call: what a stop has to wait for


class TrainState(NamedTuple):
  """Carried from step to step."""

  step: jax.Array  # []
  params: Any
  opt_state: Any
  totals: dict[str, jax.Array]  # of the metrics since the last row of history


def check_config(config) -> vae.VAEConfig:
  """The model's sizes; ValueError for settings that make no sense."""
  if config.estimator_loss not in ESTIMATOR_LOSSES:
    raise ValueError(
      f'estimator_loss must be one of {ESTIMATOR_LOSSES}, got '
      f'{config.estimator_loss!r}.'
    )
  for name in ('steps', 'batch_size', 'steps_per_call', 'num_negatives'):
    if config[name] < 1:
      raise ValueError(f'{name} must be at least 1, got {config[name]}.')
  for name in ('learning_rate', 'beta'):
    if not config[name] > 0:
      raise ValueError(f'{name} must be positive, got {config[name]}.')
  gumbel.seed_key(config.seed)  # refuses what is no seed
  try:
    model = vae.VAEConfig(**config.model)
  except TypeError as error:  # a name that is none of its fields
    raise ValueError(f'config.train.model: {error}.') from error
  side_information.check_kind(
    config.side_kind, model.side_shape, model.source_shape, config.side_noise
  )
  return model


def load_halves(config) -> dict[str, image_data.Halves]:
  """The images of `config`, see `data.images.load_halves`."""
  halves = image_data.load_halves(
    config.dataset,
    config.data_dir or None,
    num_held_out=config.num_held_out,
    flip=config.flip,
  )
  shape = halves['train'].right.shape[1:]
  if shape != tuple(config.model.source_shape):
    raise ValueError(
      f'model.source_shape is {tuple(config.model.source_shape)} but the right '
      f'halves of {config.dataset!r} are {shape}.'
    )
  return halves


def estimator_loss(logits_fn, key, latent, side, kind, num_negatives):
  """Loss [] of the estimator on a batch of joint pairs.

  Args:
    logits_fn: (latents [B, N, D], side [B, h, w]) -> [B, N].
    key: typed key; consumed.
    latent: [B, D], drawn from q(w | a).
    side: [B, h, w] of the same images.
    kind: one of `ESTIMATOR_LOSSES`.
    num_negatives: M of "contrastive".
  """
  batch, size = latent.shape
  if kind == 'bce':
    pairs = jnp.stack([latent, jnp.roll(latent, 1, axis=0)], 1)  # [B, 2, D]
    logits = logits_fn(pairs, side)
    targets = jnp.broadcast_to(jnp.array([1, 0], logits.dtype), logits.shape)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean()
  shape = (num_negatives, size)
  negatives = jax.random.normal(key, shape, jnp.float32)  # [M, D]
  negatives = jnp.broadcast_to(negatives, (batch, *shape))
  pool = jnp.concatenate([latent[:, None], negatives], 1)  # [B, 1 + M, D]
  return -jax.nn.log_softmax(logits_fn(pool, side))[:, 0].mean()


def loss_fn(params, key, left, right, config, model_config):
  """Sum of the three losses [] and their parts, on a batch of halves.

  The parts share no parameter: the latent is a constant to the estimator.
  """
  crop_key, latent_key, dropout_key, negative_key = jax.random.split(key, 4)
  nets = vae.networks(model_config)
  draw = functools.partial(
    side_information.draw_side, shape=model_config.side_shape,
    kind=config.side_kind, noise=config.side_noise,
  )  # fmt: skip
  keys = jax.random.split(crop_key, left.shape[0])
  side = jax.vmap(draw)(keys, left, right)  # [B, h, w]
  mean, log_std = nets.encode(params, right)  # [B, D]
  noise = jax.random.normal(latent_key, mean.shape, jnp.float32)
  latent = mean + jnp.exp(log_std) * noise
  image = vae.VAE(model_config).apply(
    {'params': params},
    latent,
    side,
    True,
    method=vae.VAE.decode,
    rngs={'dropout': dropout_key},
  )
  axes = tuple(range(1, right.ndim))
  squares = jnp.sum((image - right) ** 2, axes).mean()
  kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
  kl = jnp.sum(kl, -1).mean()
  ratio = estimator_loss(
    functools.partial(nets.estimate, params),
    negative_key,
    jax.lax.stop_gradient(latent),
    side,
    config.estimator_loss,
    config.num_negatives,
  )
  alone = nets.side_only(params, side)
  alone = jnp.sum((alone - right) ** 2, axes).mean()
  pixels = right[0].size
  parts = (squares / pixels, kl / math.log(2), ratio, alone / pixels)
  metrics = dict(zip(_METRICS, parts, strict=True))
  return squares + config.beta * kl + ratio + alone, metrics


def _optimizer(config):
  rate = optax.cosine_decay_schedule(
    config.learning_rate, config.steps, alpha=config.final_rate
  )
  return optax.adam(rate, b1=0.9, b2=0.99)


def _no_totals() -> dict[str, jax.Array]:
  return {name: jnp.zeros((), jnp.float32) for name in _METRICS}


def init_state(key, config, model_config) -> TrainState:
  """State before the first step; `key` is that of the whole training."""
  init_key = gumbel.domain_key(key, gumbel.Domain.MODEL_INIT)
  params = vae.init_params(init_key, model_config)
  return TrainState(
    jnp.int32(0), params, _optimizer(config).init(params), _no_totals()
  )


def state_places(config, model_config, mesh: Mesh) -> TrainState:
  """Where a state lies: 'fsdp' shares the longest axis that it divides.

  Args:
    config: of the training.
    model_config: sizes of the networks.
    mesh: in the standard form of `placement`.

  Returns:
    A tree of shardings.
  """
  shards = mesh.shape['fsdp']

  def place(leaf):
    sizes = [size if size % shards == 0 else 0 for size in leaf.shape]
    axes = [None] * leaf.ndim
    if any(sizes):
      axes[sizes.index(max(sizes))] = 'fsdp'
    return NamedSharding(mesh, PartitionSpec(*axes))

  init = functools.partial(init_state, config=config, model_config=model_config)
  return jax.tree.map(place, jax.eval_shape(init, gumbel.seed_key(0)))


def make_train_steps(config, model_config, mesh: Mesh | None = None):
  """Compiled (state, key, left [R, H, W], right, count) -> state.

  `count` steps run in one call, which takes the memory of the old state. On a
  mesh 'data' and 'fsdp' share the images of a batch, see also `state_places`.
  """
  optimizer = _optimizer(config)
  places = mesh and state_places(config, model_config, mesh)

  def on_mesh(x, spec):
    if mesh is None:
      return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

  def shared_loss(params, key, left, right):
    rows = PartitionSpec(('data', 'fsdp'))
    left, right = on_mesh((left, right), rows)
    return loss_fn(
      on_mesh(params, placement.WHOLE), key, left, right, config, model_config
    )

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=places)
  def many(state, key, left, right, count):
    def one(_, state):
      step_key = gumbel.domain_key(key, gumbel.Domain.TRAINING_STEP, state.step)
      batch_key, loss_key = jax.random.split(step_key)
      shape, known = (config.batch_size,), left.shape[0]
      rows = jax.random.randint(batch_key, shape, 0, known, jnp.int32)
      grads, metrics = jax.grad(shared_loss, has_aux=True)(
        state.params, loss_key, left[rows], right[rows]
      )
      with jax.numpy_dtype_promotion('standard'):  # optax mixes types
        updates, opt_state = optimizer.update(grads, state.opt_state)
      params = optax.apply_updates(state.params, updates)
      totals = jax.tree.map(jnp.add, state.totals, metrics)
      return TrainState(state.step + 1, params, opt_state, totals)

    return jax.lax.fori_loop(0, count, one, state)

  return many


def _check_finite(row, config) -> None:
  if not all(math.isfinite(value) for value in row.values()):
    raise FloatingPointError(
      f'the loss is not finite by step {row["step"]}: {row}; lower '
      f'learning_rate, now {config.learning_rate}.'
    )


def image_grid(params, side, right, networks) -> np.ndarray:
  """Sources over their reconstructions: [B, H, W] -> [2 H, B W] (or colour).

  The latent is the posterior mean.
  """
  mean, _ = networks.encode(params, right)
  image = networks.decode(params, mean, side)
  lines = [np.concatenate(list(np.asarray(x)), 1) for x in (right, image)]
  return np.concatenate(lines, 0)


def _laid_out(tree, mesh: Mesh | None):
  """Arrays on the first device, or whole on every device of a mesh."""
  if mesh is None:
    return jax.tree.map(jnp.asarray, tree)
  return placement.put(tree, NamedSharding(mesh, placement.WHOLE))


def _begin(config, manager, mesh) -> tuple[int, TrainState]:
  key, model_config = (
    gumbel.seed_key(config.seed),
    vae.VAEConfig(**config.model),
  )
  places = mesh and state_places(config, model_config, mesh)
  init = functools.partial(init_state, key, config, model_config)
  return run_folder.begin(manager, init, places)


def _run(config, workdir, manager, mesh, halves):
  """The loop: resume, step, keep. Returns the parameters on one device."""
  first, state = _begin(config, manager, mesh)
  history = run_folder.read_history(workdir, first, _METRICS)
  args = _laid_out((gumbel.seed_key(config.seed), *halves['train']), mesh)
  steps = make_train_steps(config, vae.VAEConfig(**config.model), mesh)
  leads, began = together.leads(), history[-1]['step'] if history else 0
  with (
    run_folder.Events(
      workdir / 'tensorboard' if leads else None, first
    ) as board,
    tqdm.tqdm(
      initial=first, total=config.steps, desc='vae', disable=not leads
    ) as progress,
    run_folder.stopping(manager, mesh) as keep,
  ):
    step = first
    while step < config.steps:
      end = min(began + config.steps_per_call, config.steps)  # of this row
      count = min(_CALL, end - step)
      state, step = steps(state, *args, count), step + count
      progress.update(count)
      if step == end:
        history.append(_row(state, step, end - began, config, board))
        state = state._replace(totals=_laid_out(_no_totals(), mesh))
        if leads:
          files.write_json(workdir / 'history.json', history)
        run_folder.save(manager, step, state)
        began = step
      keep(step, state)
    params = state.params
    if mesh is not None:
      params = jax.tree.map(lambda x: jnp.asarray(placement.fetch(x)), params)
    if leads:
      _draw(board, params, halves['test'], config)
  return params


def _row(state: TrainState, step, count, config, board) -> dict:
  """A row of history: means over the last `count` steps."""
  row = {name: float(total) / count for name, total in state.totals.items()}
  _check_finite({'step': step, **row}, config)
  board.scalars(row, step)
  return {'step': step, **row}


def _draw(board, params, halves, config) -> None:
  """A grid of test images for tensorboard."""
  networks = vae.networks(vae.VAEConfig(**config.model))
  left, right = (x[:10] for x in halves)
  key = gumbel.seed_key(config.seed)
  side = side_information.draw_sides(
    gumbel.domain_key(key, gumbel.Domain.TRAINING_PICTURES),
    left, right, 1, networks.config.side_shape,
    kind=config.side_kind, noise=config.side_noise,
  )[:, 0]  # fmt: skip
  grid = image_grid(params, side, right, networks)
  board.image('reconstructions', grid, config.steps)


def train(
  config: 'ml_collections.ConfigDict', workdir, *, mesh: Mesh | None = None
):
  """Trains to `config.steps`, resuming what `workdir` holds.

  Args:
    config: the `train` part of configs/vae_digits.py.
    workdir: folder for checkpoints/, train_config.json, history.json and, at
      the end, vae.safetensors: parameters, sizes and beta alone.
    mesh: devices that share the work, with axes 'data' and 'fsdp' (the images
      of a batch; 'fsdp' also parameters and moments). On several processes
      each makes the same call and sees the same workdir. A run may go on on
      another mesh than it began on.

  Returns:
    `vae.VAEConfig` and the parameters. A finished run is only read.

  Raises:
    ValueError: for settings that make no sense, a workdir of another run,
      damaged files in it, a mesh that does not fit, or processes with
      different arguments.
    FileNotFoundError: if the images are missing.
    FloatingPointError: if the loss stops being finite.
    KeyboardInterrupt: Ctrl-C or SIGTERM, once the last step is saved.

  Example:
    >>> from configs import vae_digits
    >>> config = vae_digits.get_config().train
    >>> model, params = train(config, 'runs/digits')  # doctest: +SKIP
  """
  shared = jax.process_count() > 1
  with together.agreed() as agree:
    model_config = check_config(config)
    halves, workdir = load_halves(config), workdirs.as_folder(workdir)
    run_folder.check_settings(config, workdir)
    path = workdir / vae.FILE
    finished = path.exists()
    if not finished:
      mesh = run_folder.check_mesh(mesh)
      run_folder.check_batch(config.batch_size, mesh)
    agree(
      config=config.to_json(),
      images=shared and files.digest(halves),
      mesh=mesh,
      finished=finished,
    )
  if finished:
    return model_config, vae.load(path)[0]
  with workdirs.held(workdir):
    with together.agreed() as agree:
      run_folder.check_settings(config, workdir)  # nobody else writes now
      if together.leads():
        run_folder.keep_settings(config, workdir)
      agree(folder='open')
    with run_folder.checkpoints(workdir, max_to_keep=1) as manager:
      params = _run(config, workdir, manager, mesh, halves)
    with together.agreed() as agree:
      if together.leads():
        about = {'beta': config.beta, 'side_kind': config.side_kind}
        vae.save(path, params, model_config, **about)
      agree(parameters='kept')
  return model_config, params
