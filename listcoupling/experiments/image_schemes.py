"""The schemes of the image table: who sends what, and who reconstructs.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: `gls` and
`shared_race` are the paper's, with its decoder g(w, t). Two are not in the
paper. `cells` is GLS again, K races and one message, with labels that are
cells of a k-means in pixels and a decoder trained on what the codec delivers
for the best of K (`training.refiner`). `list_quantiser` needs no races
(`compression.list_quantiser`).

Legend: R images, K decoders, L messages, N candidates, D latent size.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from listcoupling import bounds
from listcoupling.compression import images as codec
from listcoupling.compression import list_quantiser
from listcoupling.models import refiner, refiner_files, vae
from listcoupling.training import refiner as training

Refined = refiner_files.Refined
SCHEMES = ('gls', 'shared_race', 'cells', 'list_quantiser')
# Nats per squared error summed over pixels: enough for the encoder to send
# the nearest cell unless no candidate lies in it.
_CELL_WEIGHT = 100.0
_ROWS = 16  # images whose candidates are labelled at once


class Model(NamedTuple):
  """A trained VAE."""

  networks: vae.Networks
  params: Any


class Sent(NamedTuple):
  """R images at K decoders."""

  images: jax.Array  # [R, K, H, W]
  error: np.ndarray  # [R, K] squared error per pixel
  found: np.ndarray  # [R, K] decoder holds the encoder's choice
  error_bound: jax.Array | None  # [R] on the chance that nobody finds it


def _flat(images):
  return jnp.reshape(images, (images.shape[0], -1))


def squared_error(images, right) -> np.ndarray:
  """[R, K, H, W] against [R, H, W] -> [R, K]."""
  axes = tuple(range(2, jnp.ndim(images)))
  return np.asarray(jnp.mean((images - right[:, None]) ** 2, axes))


def _pad(x, num):
  """[R, K, ...] with its first decoder repeated to K = num."""
  return jnp.concatenate([x] + [x[:, :1]] * (num - x.shape[1]), 1)


def cell_labels(latents, refined: Refined, num_messages) -> jax.Array:
  """Labels [R, N] of candidates [R, N, D], a few images at a time.

  All at once the classifier's logits would be [R, N, F]: 8 GB for the
  candidates of 16,000 images of MNIST.
  """
  return _labels(
    refined.classifier, latents, num_messages, refined.config.num_cells
  )


@functools.partial(jax.jit, static_argnums=3)
def _labels(params, latents, num_messages, num_cells):
  label = refiner.classifier(num_cells)
  return jax.lax.map(
    lambda x: label(params, x, num_messages), latents, batch_size=_ROWS
  )


@jax.jit
def cell_penalty(right, tags, codewords) -> jax.Array:
  """What the encoder subtracts from its log weights: [R, N].

  Args:
    right: [R, H, W] sources.
    tags: [R, N] labels.
    codewords: [L, P], one for each label.
  """

  def one(x):
    source, tags = x
    distance = jnp.sum((source.reshape(-1) - codewords) ** 2, -1)  # [L]
    return _CELL_WEIGHT * distance[tags]

  return jax.lax.map(one, (right, tags), batch_size=_ROWS)


def cell_trials(trials: codec.Trials, right, refined: Refined, num_messages):
  """Labels [R, N] of `cells`, and trials whose encoder heeds them."""
  tags = cell_labels(trials.latents, refined, num_messages)
  penalty = cell_penalty(right, tags, refined.codewords)
  heeding = trials._replace(encoder_weights=trials.encoder_weights - penalty)
  return tags, heeding


def _cell_outcome(tags, heeding, num_decoders):
  """`codec.Outcome` of `cells`, and the candidates' latents [R, K, D]."""
  sent = codec.transmit(heeding, tags, num_decoders=num_decoders)
  rows = jnp.arange(len(sent.message))[:, None]
  return sent, heeding.latents[rows, sent.index]


def refine(refined, cells, latents, sides, num_decoders):
  """Reconstructions [R, C, H, W] of C decoders of a list.

  Args:
    refined: the fit.
    cells: [R, C] what each of them holds.
    latents: [R, C, D].
    sides: [R, J, h, w], J >= C: all are computed, for one compilation.
    num_decoders: K of the list, whether or not all are asked.
  """
  most = sides.shape[1]
  counts = jnp.full(len(cells), num_decoders, jnp.int32)
  arrays = (_pad(cells, most), _pad(latents, most), sides)
  images = training.decode(refined.params, *arrays, counts, refined.config)
  return images[:, : cells.shape[1]]


def send_gls(model, trials, right, num_decoders, num_messages, shared) -> Sent:
  """The paper's scheme, or its baseline."""
  sent = codec.transmit(
    trials,
    codec.draw_labels(trials, num_messages),
    num_decoders=num_decoders,
    shared_race=shared,
  )
  images = codec.reconstruct(
    model.params, trials, sent.index, networks=model.networks
  )
  error = squared_error(images, right)
  found = np.asarray(sent.found)
  bound = None
  if not shared:  # Theorem 2 is about a race for each decoder
    bound = bounds.codebook_error_bound(
      sent.encoder_probability, sent.decoder_probability, num_messages
    )
  return Sent(images, error, found, bound)


def send_cells(refined, trials, right, num_decoders, num_messages) -> Sent:
  """GLS with cells as labels and a decoder trained for it."""
  tags, heeding = cell_trials(trials, right, refined, num_messages)
  sent, latents = _cell_outcome(tags, heeding, num_decoders)
  cells = jnp.repeat(sent.message[:, None], num_decoders, axis=1)
  images = refine(refined, cells, latents, trials.sides, num_decoders)
  return Sent(
    images, squared_error(images, right), np.asarray(sent.found), None
  )


def send_list(refined, sides, right, num_decoders) -> Sent:
  """The list quantiser; `found` is the owner of the nearest codeword."""
  own = list_quantiser.nearest(_flat(right), refined.codewords)  # [R]
  cells = list_quantiser.decode(own // num_decoders, num_decoders=num_decoders)
  latents = jnp.zeros((*cells.shape, refined.config.latent_size))
  images = refine(refined, cells, latents, sides, num_decoders)
  found = np.asarray(cells == own[:, None])
  return Sent(images, squared_error(images, right), found, None)


def list_pool(codewords, right, sides, counts, latent_size) -> training.Pool:
  """What the decoders of a list quantiser hold, for several list sizes.

  Args:
    codewords: [F, P].
    right: [R, H, W].
    sides: [R, K, h, w].
    counts: [C] divisors of F.
    latent_size: D; the latents are zeros.
  """
  own, most = list_quantiser.nearest(_flat(right), codewords), sides.shape[1]
  cells = [
    _pad(list_quantiser.decode(own // k, num_decoders=k), most) for k in counts
  ]
  shape = (len(counts), len(own), most, latent_size)
  return training.Pool(
    jnp.asarray(counts, jnp.int32), right, sides, jnp.stack(cells),
    jnp.zeros(shape),
  )  # fmt: skip


def cell_pool(refined, trials, right, counts, num_messages) -> training.Pool:
  """What the decoders of `cells` hold, for several list sizes."""
  most, cells, latents = trials.sides.shape[1], [], []
  tags, heeding = cell_trials(trials, right, refined, num_messages)
  for count in counts:
    sent, found = _cell_outcome(tags, heeding, count)
    cells.append(jnp.repeat(sent.message[:, None], most, axis=1))
    latents.append(_pad(found, most))
  return training.Pool(
    jnp.asarray(counts, jnp.int32), right, trials.sides, jnp.stack(cells),
    jnp.stack(latents),
  )  # fmt: skip
