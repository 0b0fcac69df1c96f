"""What the image table needs fitted before it can be filled.

The VAEs, one per beta; then, for `cells` and `list_quantiser` of
`image_schemes`, codewords, classifier and refiner for each number of cells.
Everything is kept in the workdir and only read the next time.

Legend: R images, F cells, D latent size, P pixels.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from listcoupling.compression import images as codec
from listcoupling.compression import list_quantiser
from listcoupling.experiments import image_schemes, results, resume
from listcoupling.models import refiner, refiner_files, vae
from listcoupling.training import refiner as training
from listcoupling.training import vae as vae_training

# Of everything fitted here, folded into config.train.seed: no key of a repeat.
_KEY = 1 << 30


class Context(NamedTuple):
  """What the fits share.

  Attributes:
    config: of the experiment.
    workdir: where they are kept.
    halves: "train", "select", "test" of `training.vae.load_halves`.
    models: beta -> `image_schemes.Model`.
  """

  config: Any
  workdir: pathlib.Path
  halves: dict
  models: dict


def betas_of(config) -> tuple[float, ...]:
  """`config.betas`, or the one beta of the training."""
  return tuple(config.betas) or (config.train.beta,)


def train_models(config, workdir) -> dict[float, image_schemes.Model]:
  """One VAE per beta, in `workdir`/model or `workdir`/model_beta_<beta>."""
  models = {}
  for beta in betas_of(config):
    train = ml_collections.ConfigDict(config.train.to_dict())
    train.beta = beta
    name = f'model_beta_{beta:g}' if config.betas else 'model'
    sizes, params = vae_training.train(train, pathlib.Path(workdir) / name)
    models[beta] = image_schemes.Model(vae.networks(sizes), params)
  return models


def prepare(key, model, halves, config, num_candidates) -> codec.Trials:
  """`codec.prepare` in chunks of `config.num_images`, one compilation.

  Images that do not fill a chunk are left out.
  """
  size = min(config.num_images, len(halves.right))
  parts = []
  for i in range(len(halves.right) // size):
    rows = slice(i * size, (i + 1) * size)
    parts.append(
      codec.prepare(
        jax.random.fold_in(key, i),
        model.params,
        jnp.asarray(halves.left[rows]),
        jnp.asarray(halves.right[rows]),
        networks=model.networks,
        num_decoders=max(config.num_decoders),
        num_candidates=num_candidates,
      )
    )
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def spread(halves, count):
  """`count` images evenly spread: the ends of a test set differ."""
  rows = np.linspace(0, len(halves.right) - 1, min(count, len(halves.right)))
  rows = rows.astype(int)
  return type(halves)(*(jnp.asarray(x[rows]) for x in halves))


def _settings(config) -> dict:
  """What the fits depend on, in plain types."""
  return results.plain(
    {
      'train': config.train, 'refine': config.refine,
      'num_decoders': config.num_decoders,
      'num_messages': sorted(config.num_messages),
      'most_messages': max(config.num_messages),
      'images_of_a_call': config.num_images,
    }
  )  # fmt: skip


def _refiner_config(context) -> refiner.RefinerConfig:
  return refiner_files.config_of(_settings(context.config))


def _check_kept(context) -> None:
  """Refuses a folder of fits made with other settings."""
  path = context.workdir / refiner_files.FOLDER / refiner_files.SETTINGS
  wanted = _settings(context.config)
  if not path.exists():
    results.write_json(path, wanted)
    return
  changed = resume.differences(results.read_json(path), wanted)
  if changed:
    raise ValueError(
      f'{path.parent} holds fits of other settings of {", ".join(changed)}; '
      'choose another workdir or remove that folder.'
    )


def _train(key, codewords, pool, config, context):
  means = codewords.reshape(-1, *config.source_shape)
  refine = context.config.refine
  params, _ = training.train(
    key, means, pool, config=config, steps=refine.steps,
    batch_size=refine.batch_size, learning_rate=refine.learning_rate,
  )  # fmt: skip
  return params


def _list_counts(config, num_cells) -> list[int]:
  """List sizes K for which F cells are a wanted L * K; as many as sizes."""
  wanted = set(config.num_messages)
  counts = [
    k
    for k in config.num_decoders
    if num_cells % k == 0 and num_cells // k in wanted
  ]
  # Repeated to one length, so that every F runs the same compiled loop.
  return (counts * len(config.num_decoders))[: len(config.num_decoders)]


def _fit_list(context, num_cells, sides, right, key):
  config = _refiner_config(context)
  path = refiner_files.list_path(context.workdir, num_cells)
  if path.exists():
    return refiner_files.read(path, config)
  flat = np.asarray(right).reshape(len(right), -1)
  codewords = list_quantiser.fit_codewords(
    flat[: context.config.refine.num_kmeans], num_cells
  )
  counts = _list_counts(context.config, num_cells)
  pool = image_schemes.list_pool(
    codewords, right, sides, counts, config.latent_size
  )
  params = _train(key, codewords, pool, config, context)
  refined = image_schemes.Refined(config, codewords, params, None)
  refiner_files.write(path, refined)
  return refined


def fit_lists(context) -> dict[int, image_schemes.Refined]:
  """Number of cells -> fit, for every L * K of the table."""
  _check_kept(context)
  config, halves = context.config, context.halves['train']
  key = jax.random.fold_in(jax.random.key(config.train.seed), _KEY)
  shape, most = config.train.model.side_shape, max(config.num_decoders)
  sides = jax.jit(
    jax.vmap(
      lambda k, x: codec.side_information.random_crops(k, x, most, shape)
    )
  )(jax.random.split(key, len(halves.left)), jnp.asarray(halves.left))
  wanted = sorted({n * k for n in config.num_messages
                   for k in config.num_decoders})  # fmt: skip
  right = jnp.asarray(halves.right)
  return {
    count: _fit_list(context, count, sides, right, key)
    for count in tqdm.tqdm(wanted, desc='list quantisers')
  }


def _fit_cell(context, beta, count, trials, right, posterior, key):
  config = _refiner_config(context)
  path = refiner_files.cells_path(context.workdir, count, beta)
  if path.exists():
    return refiner_files.read(path, config)
  flat = np.asarray(right).reshape(len(right), -1)
  codewords = list_quantiser.fit_codewords(
    flat[: context.config.refine.num_kmeans], count
  )
  cells = list_quantiser.nearest(flat, codewords)
  labeller, _ = training.train_classifier(
    key, *posterior, cells, num_cells=config.num_cells,
    steps=context.config.refine.classifier_steps,
  )  # fmt: skip
  refined = image_schemes.Refined(config, codewords, None, labeller)
  pool = image_schemes.cell_pool(
    refined, trials, right, tuple(context.config.num_decoders), count
  )
  params = _train(key, codewords, pool, config, context)
  refined = refined._replace(params=params)
  refiner_files.write(path, refined)
  return refined


def fit_cells(context, beta) -> dict[int, image_schemes.Refined]:
  """Number of messages -> fit, on the VAE of one beta."""
  _check_kept(context)
  config = context.config
  names = [
    refiner_files.cells_path(context.workdir, n, beta)
    for n in config.num_messages
  ]
  trials = right = posterior = None
  key = jax.random.fold_in(jax.random.key(config.train.seed), _KEY + 1)
  if not all(path.exists() for path in names):
    model, halves = context.models[beta], context.halves['train']
    halves = type(halves)(*(x[: config.refine.num_images] for x in halves))
    trials = prepare(key, model, halves, config, config.refine.num_candidates)
    right = jnp.asarray(halves.right[: len(trials.latents)])
    posterior = jax.jit(model.networks.encode)(model.params, right)
  return {
    count: _fit_cell(context, beta, count, trials, right, posterior, key)
    for count in tqdm.tqdm(config.num_messages, desc=f'cells, beta {beta:g}')
  }
