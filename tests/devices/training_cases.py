"""Trainings on meshes of eight host devices; run by `mesh_cases`."""

import functools
import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from configs import vae_digits
from listcoupling import gumbel, program_text
from listcoupling.decoding import placement
from listcoupling.models import pretrained, transformer
from listcoupling.models import vae as vae_models
from listcoupling.models.transformer_config import TransformerConfig
from listcoupling.training import (
  inputs,
  language_model,
  losses,
  run_folder,
  vae,
)
from tests import fakes, statistics
from tests.training import tiny_text

SIZES = TransformerConfig(512, 64, 2, 4, 2, 16, 128)


def make_mesh(**sizes):
  return placement.parse_mesh(','.join(f'{k}={v}' for k, v in sizes.items()))


def settings(**changes):
  config = tiny_text.small_config('')
  config.update(batch_size=16, sequence_length=32, **changes)
  return config


def spread(function, params, terms):
  """Spread of results where every parameter is off by a sum's roundings.

  A model of how far two compiled programs of one formula are apart, which sum
  so many terms in other orders, and no count of their roundings, as
  `floats.apart` is: parameters alone are changed, by a walk of random signs.

  Args:
    function: of parameters to an array.
    params: about which it is taken.
    terms: of the sums.

  Returns:
    SIGMAS standard deviations of a difference, of each element.
  """
  rng, size = np.random.default_rng(0), np.finfo(np.float32).eps * terms**0.5

  def nudged(leaf):
    off = 1 + size * rng.normal(size=leaf.shape)
    return leaf * off.astype(np.float32)

  found = [function(jax.tree.map(nudged, params)) for _ in range(8)]
  deviation = np.std(found, axis=0, ddof=1)
  return statistics.SIGMAS * np.sqrt(2) * deviation


def replaced(state, params):
  """A copy, for a program that is given it, with these parameters."""
  return jax.tree.map(jnp.array, state._replace(params=params))


def apart_later(config, folder, teacher=None) -> float:
  """`spread` of the losses of a run that goes on from its checkpoint."""
  texts = inputs.load_texts(config, folder, teacher)
  sizes = language_model._model_config(config, texts)
  job = language_model._job(config, folder, texts, teacher, None)
  init = functools.partial(language_model.init_state, job.key, config, sizes)
  train, evaluate = language_model.make_steps(
    config, sizes, teacher and teacher.config, None
  )
  with run_folder.checkpoints(folder) as manager:
    first, saved = run_folder.begin(manager, init, None)

  def curve(params):
    state, found = replaced(saved, params), []
    for step in range(first, config.num_steps):
      state, metrics = train(
        state, job.tokens, job.key, step, job.teacher_params
      )
      found.append(metrics)
    run = functools.partial(evaluate, state.params, job.teacher_params)
    found.append(losses.mean_metrics(run, job.windows))
    return [float(metrics['cross_entropy']) for metrics in found]

  terms = config.batch_size * config.sequence_length
  return spread(curve, saved.params, terms).max().item()


def text_program(config, mesh=None):
  """A compiled step, the first state and what else the step takes."""
  places = mesh and language_model.state_places(config, SIZES, mesh)
  key, tokens = gumbel.seed_key(2), np.arange(4000) ** 2 % 509
  state = language_model.init_state(key, config, SIZES)
  args = jnp.asarray(tokens, jnp.int32), key
  if mesh is not None:
    state = jax.tree.map(placement.put, state, places)
    args = placement.put(
      args, jax.sharding.NamedSharding(mesh, placement.WHOLE)
    )
  train, _ = language_model.make_steps(config, SIZES, None, places)
  return train.lower(state, *args, 0, None).compile(), state, args


def text_losses(program, state, args):
  """Losses of six steps; the state is given up."""
  curve = []
  for step in range(6):
    state, metrics = program(state, *args, step, None)
    curve.append(float(metrics['cross_entropy']))
  return curve, state


def language(results):
  """Steps on one device and on eight."""
  config = settings()
  alone, state, args = text_program(config)
  noise = spread(
    lambda params: text_losses(alone, replaced(state, params), args)[0],
    state.params,
    16 * 32,
  )
  one = text_losses(alone, state, args)
  shared, state, args = text_program(config, make_mesh(data=2, fsdp=4))
  eight, placed = text_losses(shared, state, args)
  down = placed.params['layer_0']['down']
  results['language model'] = {
    'flops': shared.cost_analysis()['flops'] / alone.cost_analysis()['flops'],
    'losses': [one[0], eight],
    'apart': noise.max().item(),
    'shard': list(down.sharding.shard_shape(down.shape)),
    'reused': alone.memory_analysis().alias_size_in_bytes,
    'state': sum(leaf.nbytes for leaf in jax.tree.leaves(one[1])),
  }


def teacher(results):
  """A model to distil from, read onto a mesh that divides not all of it."""
  config = settings(teacher=str(pretrained.SHIPPED / 'drafter'))
  config.model.vocab_size = 1024
  alone = inputs.load_teacher(config)
  shared = inputs.load_teacher(config, make_mesh(fsdp=2, tp=4))
  leaves = jax.tree.leaves(shared.params)
  results['teacher'] = {
    'digests': [inputs.model_digest(x) for x in (alone, shared)],
    'whole': sum(leaf.nbytes for leaf in leaves),
    'own': sum(leaf.addressable_shards[5].data.nbytes for leaf in leaves),
    'key heads': [x.config.num_kv_heads for x in (alone, shared)],
  }


def chunks(results):
  """Temporaries of a compiled step whose logits would be large."""
  mesh, before = make_mesh(data=2, fsdp=4), losses.MOST_LOGITS
  losses.MOST_LOGITS, found = 2**20, {}
  for name, words, batch in (
    ('few words', 8192, 128),
    ('many words', 32768, 128),
    ('many tokens', 32768, 512),
  ):
    config = settings()
    config.batch_size = batch
    sizes = TransformerConfig(words, 16, 1, 2, 1, 8, 32)
    places = language_model.state_places(config, sizes, mesh)
    whole = jax.sharding.NamedSharding(mesh, placement.WHOLE)
    state = jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      jax.eval_shape(
        functools.partial(
          language_model.init_state, config=config, model_config=sizes
        ),
        gumbel.seed_key(0),
      ),
      places,
    )
    tokens = jax.ShapeDtypeStruct((4000,), jnp.int32, sharding=whole)
    train, _ = language_model.make_steps(config, sizes, None, places)
    args = tokens, placement.put(gumbel.seed_key(0), whole), 0, None
    program = train.lower(state, *args).compile()
    sent = program_text.collectives(program.as_text())
    found[name] = {
      'temporaries': program.memory_analysis().temp_size_in_bytes,
      'logits': 4 * batch * 32 * words // 8,
      'in loops': max(
        (op.size for op in sent if 'while/body' in op.source), default=0
      ),
    }
  losses.MOST_LOGITS = before
  results['chunks'] = found


def chunked_loss(results):
  """Loss and gradients with logits whole and in chunks of 31 tokens."""
  student, teacher = (
    transformer.init_params(gumbel.seed_key(seed), SIZES) for seed in (0, 1)
  )
  rows = np.arange(8 * 32).reshape(8, 32) ** 2 % 509
  mesh, before = make_mesh(fsdp=2), losses.MOST_LOGITS

  def loss(student, teacher, mesh):
    windows = jnp.asarray(rows, jnp.int32)
    return losses.loss_and_metrics(
      0.25, (SIZES, student), windows, (SIZES, teacher), mesh
    )

  found = []
  for most, where in ((before, None), (36 * 512, None), (36 * 512, mesh)):
    losses.MOST_LOGITS, pair = most, (student, teacher)
    if where is not None:
      whole = jax.sharding.NamedSharding(where, placement.WHOLE)
      pair = placement.put(pair, whole)
    step = jax.value_and_grad(functools.partial(loss, mesh=where), has_aux=True)
    found.append(jax.tree.map(np.asarray, jax.jit(step)(*pair)))
  losses.MOST_LOGITS = before
  whole, *rest = ([flat(x) for x in each] for each in found)
  step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
  results['chunked loss'] = {
    name: {
      'apart': spread(
        lambda params, part=part: flat(step(params, teacher, None)[part]),
        *(student, 8 * 31),
      ).max(),
      'differences': [np.abs(own[part] - whole[part]).max() for own in rest],
    }
    for part, name in enumerate(('losses', 'gradients'))
  }


def flat(tree):
  """All its numbers, as float64."""
  return np.concatenate([np.float64(x).ravel() for x in jax.tree.leaves(tree)])


def largest(ours, theirs):
  """Largest difference of two trees."""
  pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
  return max(float(np.abs(a - b).max()) for a, b in pairs)


def images(results):
  """Steps of the image codec on one device and on eight."""
  config = vae_digits.get_config().train
  config.update(batch_size=256, num_negatives=4)
  model = vae_models.VAEConfig(**config.model)
  rng = np.random.default_rng(0)
  halves = rng.uniform(size=(2, 300, 8, 4)).astype(np.float32)
  key, flops, curves, noise = gumbel.seed_key(3), [], [], None
  for mesh in (None, make_mesh(fsdp=8)):
    state = vae.init_state(key, config, model)
    args = vae._laid_out((key, *halves), mesh)
    if mesh is not None:
      places = vae.state_places(config, model, mesh)
      state = jax.tree.map(placement.put, state, places)
    steps = vae.make_train_steps(config, model, mesh)
    program = steps.lower(state, *args, 1).compile()
    flops.append(program.cost_analysis()['flops'])

    def curve(state, program=program, args=args):
      found = []
      for _ in range(5):
        state = program(state, *args, 1)
        found.append(float(state.totals['mse']))
      return found, state

    if mesh is None:
      noise = spread(
        lambda params, state=state: curve(replaced(state, params))[0],
        state.params,
        256 * 32,
      )
    own, state = curve(state)
    curves.append(own)
  kernel = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
  results['image codec'] = {
    'shard': kernel.sharding.shard_shape(kernel.shape),
    'kernel': kernel.shape,
    'flops': flops[1] / flops[0],
    'losses': curves,
    'apart': noise.max().item(),
  }


def another_mesh(results):
  """A distillation resumed from its middle on another mesh and on none."""
  folder = pathlib.Path(tempfile.mkdtemp())
  config = tiny_text.small_config(tiny_text.write_text(folder / 'text.txt'))
  config.update(
    batch_size=8, num_steps=6, eval_every=6, checkpoint_every=3, log_every=6
  )
  config.update(teacher=str(pretrained.SHIPPED / 'drafter'), distillation=0.5)
  config.model.update(vocab_size=1024, num_kv_heads=2)

  def train(name, mesh):
    found = language_model.train_and_evaluate(config, folder / name, mesh=mesh)
    return found, found.record['held_out']['cross_entropy']

  first = make_mesh(fsdp=4, tp=2)
  model, loss = train('run', first)
  found = {'saved on': dict(model.model.params['embed'].sharding.mesh.shape)}
  shutil.rmtree(folder / 'run' / 'checkpoints' / '6')
  sizes = model.model.config
  init = functools.partial(
    language_model.init_state, gumbel.seed_key(config.seed), config, sizes
  )

  def state_of(name, mesh):
    places = mesh and language_model.state_places(config, sizes, mesh)
    with run_folder.checkpoints(folder / name) as manager:
      step, state = run_folder.begin(manager, init, places)
    return step, jax.tree.map(np.asarray, state)

  step, saved = state_of('run', first)
  teacher = inputs.load_teacher(config)
  found['apart'] = apart_later(config, folder / 'run', teacher)
  for name, mesh in (
    (str(dict(data=2, fsdp=4)), make_mesh(data=2, fsdp=4)),
    ('one device', None),
  ):
    shutil.copytree(folder / 'run', folder / name)
    step, state = state_of(name, mesh)
    found[name] = {
      'resumed at': step,
      'same bits': largest(state, saved) == 0,
      'difference': abs(train(name, mesh)[1] - loss),
    }
  found['never shared'] = abs(train('alone', None)[1] - loss)
  results['another mesh'] = found
  shutil.rmtree(folder)


def refused_trainings(results):
  """Messages of what cannot be trained on a mesh; nothing is written."""
  folder = pathlib.Path(tempfile.mkdtemp())
  path = tiny_text.write_text(folder / 'text.txt')

  def message(train, config, mesh):
    return fakes.refusal(train, config, folder / 'run', mesh=mesh)

  text, image = tiny_text.small_config(path), vae_digits.get_config().train
  text.batch_size, image.batch_size = 12, 4
  train = language_model.train_and_evaluate
  found = {
    'batch': message(train, text, make_mesh(data=2, fsdp=4)),
    'name': message(train, text, jax.make_mesh((8,), ('model',))),
    'images': message(vae.train, image, make_mesh(data=8)),
  }
  text.batch_size, text.model.hidden_size = 16, 36
  found['size'] = message(train, text, make_mesh(fsdp=8))
  found['written'] = [p.name for p in folder.iterdir() if p != path]
  results['refused trainings'] = found
  shutil.rmtree(folder)


CASES = (
  language,
  teacher,
  chunks,
  chunked_loss,
  images,
  another_mesh,
  refused_trainings,
)
