"""The codec on images beside what needs no codec.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, MNIST: the mean over
test images of the squared error per pixel of the best of K decoders, for GLS
and for one race shared by all. Beside them stand the rows that every such
table needs: the mean image, the side information alone, and k-means with as
many codewords as there are messages and no side information. `cells` is GLS
with labels that are k-means cells of the latents instead of random ones (not
in the paper).
"""

import itertools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling import bounds
from listcoupling.compression import images as codec
from listcoupling.data import images as image_data
from listcoupling.data import side_information
from listcoupling.experiments import image_plots, results
from listcoupling.models import vae
from listcoupling.training import vae as training

SCHEMES = ('gls', 'shared_race', 'cells')
# arXiv 2506.05632, MNIST: L -> K -> MSE of the best decoder.
_PAPER = {
  'gls': {
    4: {1: 0.1027, 2: 0.0860, 4: 0.0751},
    8: {1: 0.0942, 2: 0.0792, 4: 0.0710},
    16: {1: 0.0852, 2: 0.0734, 4: 0.0671},
    32: {1: 0.0766, 2: 0.0687, 4: 0.0635},
    64: {1: 0.0693, 2: 0.0636, 4: 0.0564},
  },
  'shared_race': {
    4: {2: 0.0941, 4: 0.0886},
    8: {2: 0.0865, 4: 0.0815},
    16: {2: 0.0783, 4: 0.0747},
    32: {2: 0.0718, 4: 0.0694},
    64: {2: 0.0669, 4: 0.0639},
  },
}


class Setup(NamedTuple):
  """A trained model and the images it is tried on."""

  networks: vae.Networks
  params: Any
  train_right: jax.Array  # [., H, W]
  left: jax.Array  # [R, H, W] of the test images
  right: jax.Array  # [R, H, W]
  trials: codec.Trials  # the same images, crops and candidates drawn


def check_config(config) -> None:
  """Raises ValueError for settings that make no sense."""
  training.check_config(config.train)
  for name in ('num_decoders', 'num_messages'):
    if not len(config[name]) or min(config[name]) < 1:
      raise ValueError(f'{name} must hold positive values, got {config[name]}.')
  for name in ('num_candidates', 'num_images'):
    if config[name] < 2:
      raise ValueError(f'{name} must be at least 2, got {config[name]}.')
  unknown = set(config.schemes) - set(SCHEMES)
  if unknown:
    raise ValueError(f'schemes must be among {SCHEMES}, got {sorted(unknown)}.')


def setup(config, workdir, seed) -> Setup:
  """Trains the model in `workdir`/model, or reads it, and loads the images."""
  model_config, params = training.train(
    config.train, pathlib.Path(workdir) / 'model'
  )
  images = image_data.load_images(
    config.train.dataset, config.train.data_dir or None
  )
  _, train_right = side_information.split_halves(images.train_images)
  left, right = side_information.split_halves(images.test_images)
  count = min(config.num_images, len(right))
  # Spread over the test set: its two ends differ.
  rows = np.linspace(0, len(right) - 1, count).astype(int)
  left, right = jnp.asarray(left[rows]), jnp.asarray(right[rows])
  networks = vae.networks(model_config)
  trials = codec.prepare(
    jax.random.key(seed),
    params,
    left,
    right,
    networks=networks,
    num_decoders=max(config.num_decoders),
    num_candidates=config.num_candidates,
  )
  known = jnp.asarray(train_right[:10_000])
  return Setup(networks, params, known, left, right, trials)


def _mean(values, name) -> dict:
  """Mean over images and its standard error, as columns."""
  values = np.asarray(values, np.float64)
  error = values.std(ddof=1) / np.sqrt(values.size)
  return {name: float(values.mean()), f'{name}_se': float(error)}


def _kmeans(points, count):
  from sklearn import cluster

  count = min(count, len(points))
  return cluster.KMeans(count, n_init=1, random_state=0).fit(points)


def latent_centres(trial: Setup, num_messages, padded) -> np.ndarray:
  """k-means centres [padded, D] of the training latents; the rest is inf."""
  mean, log_std = trial.networks.encode(trial.params, trial.train_right)
  noise = jax.random.normal(jax.random.key(0), mean.shape)
  found = _kmeans(np.asarray(mean + jnp.exp(log_std) * noise), num_messages)
  centres = np.full((padded, mean.shape[1]), np.inf, np.float32)
  centres[: len(found.cluster_centers_)] = found.cluster_centers_
  return centres


def plain_rows(trial: Setup, config) -> list[dict]:
  """Rows of the schemes that need no codec."""
  right = np.asarray(trial.right)
  flat, count = right.reshape(len(right), -1), len(right)
  train = np.asarray(trial.train_right).reshape(len(trial.train_right), -1)

  def row(scheme, num_decoders, num_messages, error):
    return {
      'scheme': scheme,
      'num_decoders': num_decoders,
      'num_messages': num_messages,
      'images': count,
      **_mean(error, 'mse'),
    }

  rows = [row('mean_image', None, 1, ((flat - train.mean(0)) ** 2).mean(1))]
  for num_messages in config.num_messages:
    found = _kmeans(train, num_messages)
    error = (flat - found.cluster_centers_[found.predict(flat)]) ** 2
    rows.append(row('kmeans', None, num_messages, error.mean(1)))
  sides = trial.trials.sides  # [R, K, h, w]
  answers = trial.networks.side_only(
    trial.params, sides.reshape(-1, *sides.shape[2:])
  ).reshape(*sides.shape[:2], *right.shape[1:])
  error = ((np.asarray(answers) - right[:, None]) ** 2).mean((2, 3))  # [R, K]
  for num_decoders in config.num_decoders:
    best = error[:, :num_decoders].min(1)
    rows.append(row('side_only', num_decoders, 1, best))
  return rows


def send(trial: Setup, config, scheme, num_decoders, num_messages):
  """`codec.Outcome`, reconstructions [R, K, H, W] and errors [R, K]."""
  if scheme == 'cells':
    centres = latent_centres(trial, num_messages, max(config.num_messages))
    tags = jax.vmap(codec.nearest_cell, (0, None))(
      trial.trials.latents, centres
    )
  else:
    tags = codec.draw_labels(trial.trials, num_messages)
  sent = codec.transmit(
    trial.trials,
    tags,
    num_decoders=num_decoders,
    shared_race=scheme == 'shared_race',
  )
  images = codec.reconstruct(
    trial.params, trial.trials, sent.index, networks=trial.networks
  )
  error = (np.asarray(images) - np.asarray(trial.right)[:, None]) ** 2
  return sent, images, error.mean((2, 3))


def codec_row(trial: Setup, config, scheme, num_decoders, num_messages) -> dict:
  """Row of one scheme of the codec."""
  sent, _, error = send(trial, config, scheme, num_decoders, num_messages)
  row = {
    'scheme': scheme,
    'num_decoders': num_decoders,
    'num_messages': num_messages,
    'images': len(trial.right),
    **_mean(error.min(1), 'mse'),
    **_mean(~np.asarray(sent.found).any(1), 'error_rate'),
    'error_bound': None,
    'num_candidates': config.num_candidates,
    'beta': config.train.beta,
  }
  if scheme == 'gls':  # Proposition 4 is about this scheme alone
    row['error_bound'] = bounds.compression_error_bound(
      sent.information_density, num_messages
    ).mean()
  if config.train.dataset.startswith('mnist'):
    paper = _PAPER.get(scheme, {}).get(num_messages, {})
    row['paper_mse'] = paper.get(num_decoders)
  return results.plain(row)


def run(config, workdir, seed: int = 0) -> list[dict]:
  """Trains or reads the model, evaluates, writes table and pictures.

  Args:
    config: see configs/vae_digits.py.
    workdir: folder of model/, results.csv, results.json, rate_distortion.png
      and examples.png. A finished training is not repeated.
    seed: of the evaluation; training has its own, config.train.seed.

  Returns:
    One dictionary per row, the columns of results.csv.

  Raises:
    ValueError: for settings that make no sense, or a workdir of another run.
    FileNotFoundError: if the images are missing.
  """
  check_config(config)
  workdir = pathlib.Path(workdir)
  trial = setup(config, workdir, seed)
  rows = plain_rows(trial, config)
  jobs = [
    (scheme, num_decoders, num_messages)
    for num_decoders, num_messages, scheme in itertools.product(
      config.num_decoders, config.num_messages, config.schemes
    )
    if scheme != 'shared_race' or num_decoders > 1  # else the same as gls
  ]
  for job in tqdm.tqdm(jobs, desc='images'):
    rows.append(codec_row(trial, config, *job))
  results.write_json(
    workdir / 'results.json',
    {
      'config': config,
      'seed': seed,
      'environment': results.environment(),
      'history': results.read_json(workdir / 'model' / 'history.json')[-1],
    },
  )
  results.write_csv(workdir / 'results.csv', rows)
  image_plots.rate_distortion(rows, workdir / 'rate_distortion.png')
  save_examples(trial, config, workdir / 'examples.png')
  return rows


def save_examples(trial: Setup, config, path):
  """Draws images that were found by all, some and none of the decoders."""
  num_decoders = max(config.num_decoders)
  num_messages = sorted(config.num_messages)[len(config.num_messages) // 2]
  sent, images, error = send(trial, config, 'gls', num_decoders, num_messages)
  image_plots.examples(
    trial.left,
    trial.right,
    trial.trials.sides,
    images,
    sent.found,
    error,
    path,
    title=f'{np.log2(num_messages):.3g} bits to {num_decoders} decoders',
  )


def as_text(rows) -> str:
  """The table for a terminal."""
  lines = [
    f'{"scheme":12} {"K":>2} {"L":>3} {"MSE":>7} {"+-":>6} {"paper":>6} '
    f'{"P[error]":>8} {"Prop. 4":>7}'
  ]
  for row in rows:

    def show(name, width, digits=None, row=row):
      value = row.get(name)
      if value is not None and digits is not None:
        value = f'{value:.{digits}f}'
      return f'{"" if value is None else value:>{width}}'

    lines.append(
      f'{row["scheme"]:12} {show("num_decoders", 2)} {show("num_messages", 3)} '
      f'{show("mse", 7, 4)} {show("mse_se", 6, 4)} {show("paper_mse", 6, 4)} '
      f'{show("error_rate", 8, 3)} {show("error_bound", 7, 3)}'
    )
  return '\n'.join(lines)
