"""The codec on images: one message, K decoders with a crop each.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. Candidates are drawn
from the prior N(0, I) of a beta-VAE. The encoder weighs them by
q(w | image) / prior(w), a decoder by exp(logit) of the estimator: the odds of
the joint against the product law, not the probability.

Networks are plain functions of parameters (`models.vae.networks`), so nothing
here knows Flax.

Legend: R images, N candidates, K decoders, D latent size, L messages.
"""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from listcoupling.compression import codec, labels
from listcoupling.data import side_information


class Networks(Protocol):
  """What the codec asks of a model; see `models.vae.Networks`."""

  config: Any  # latent_size, source_shape, side_shape
  encode: Any
  decode: Any
  estimate: Any


class Codebook(NamedTuple):
  """What encoder and decoders rebuild from one key."""

  race_key: jax.Array  # []
  latents: jax.Array  # [N, D]
  labels: jax.Array  # [N] int32


def _draw_candidates(key, num_candidates, latent_size):
  """Keys of races and labels, and the latents [N, D] of one image."""
  prior_key, label_key, race_key = jax.random.split(key, 3)
  latents = jax.random.normal(prior_key, (num_candidates, latent_size))
  return race_key, label_key, latents


def make_codebook(
  key: jax.Array, num_candidates: int, num_messages, latent_size, centres=None
) -> Codebook:
  """Candidates from N(0, I), their labels and the key of their races.

  Args:
    key: typed key; consumed. Fresh for every image.
    num_candidates: N, static.
    num_messages: [] L; may be traced. Not read with `centres`.
    latent_size: D, static.
    centres: [L, D] label a candidate by the nearest of these, a quantiser of
      the latents (not in the paper), instead of iid uniform labels.

  Returns:
    `Codebook`.
  """
  race_key, label_key, latents = _draw_candidates(
    key, num_candidates, latent_size
  )
  if centres is None:
    tags = labels.random_labels(label_key, num_candidates, num_messages)
  else:
    tags = labels.kmeans_labels(latents, centres)
  return Codebook(race_key, latents, tags)


def encoder_log_weights(params, image, latents, networks) -> jax.Array:
  """log q(u_i | image) / prior(u_i): [H, W] and [N, D] -> [N]."""
  mean, log_std = networks.encode(params, image[None])  # [1, D]
  z = (latents - mean) * jnp.exp(-log_std)
  return 0.5 * jnp.sum(latents**2 - z**2, -1) - jnp.sum(log_std)


def encode_image(
  params, image, codebook, *, networks, num_decoders, shared_race=False
) -> codec.Encoding:
  """Candidate and message of one source image.

  Args:
    params: of the networks.
    image: [H, W] pixels in [0, 1].
    codebook: shared with the decoders.
    networks: see `Networks`.
    num_decoders: K.
    shared_race: see `codec.encode`.

  Returns:
    `codec.Encoding`.

  Raises:
    ValueError: for an image of another shape.
  """
  _check_shape(image, networks.config.source_shape, 'image')
  return codec.encode(
    codebook.race_key,
    encoder_log_weights(params, image, codebook.latents, networks),
    codebook.labels,
    num_decoders=num_decoders,
    shared_race=shared_race,
  )


def decode_image(
  params,
  message,
  side,
  codebook,
  *,
  networks,
  decoder,
  num_decoders,
  shared_race=False,
):
  """What one decoder makes of the message and its side information.

  Args:
    params: of the networks.
    message: [] integer.
    side: [h, w] crop.
    codebook: shared with the encoder.
    networks: see `Networks`.
    decoder: [] integer from 0.
    num_decoders: K, as at the encoder.
    shared_race: as at the encoder.

  Returns:
    index [] and image [H, W].

  Raises:
    ValueError: for a crop of another shape, and as `codec.decode`.
  """
  _check_shape(side, networks.config.side_shape, 'side')
  index = codec.decode(
    codebook.race_key,
    networks.estimate(params, codebook.latents, side),
    codebook.labels,
    message,
    decoder=decoder,
    num_decoders=num_decoders,
    shared_race=shared_race,
  )
  latent = codebook.latents[index]
  return index, networks.decode(params, latent[None], side[None])[0]


def _check_shape(array, shape, name) -> None:
  if jnp.shape(array) != tuple(shape):
    raise ValueError(
      f"{name} must have the model's shape {tuple(shape)}, got "
      f'{jnp.shape(array)}.'
    )


class Trials(NamedTuple):
  """R images made ready for every scheme, rate and number of decoders.

  Everything that costs network passes is here and is shared: schemes that are
  run on one `Trials` see the same crops and candidates.
  """

  race_keys: jax.Array  # [R]
  label_keys: jax.Array  # [R]
  latents: jax.Array  # [R, N, D] candidates
  encoder_weights: jax.Array  # [R, N] log
  decoder_weights: jax.Array  # [R, K, N] log
  sides: jax.Array  # [R, K, h, w]


class Outcome(NamedTuple):
  """R images sent to K decoders."""

  message: jax.Array  # [R] int32
  index: jax.Array  # [R, K] int32, the candidate of each decoder
  found: jax.Array  # [R, K] bool, whether it is the encoder's
  information_density: jax.Array  # [R, K] estimate of i(W; A | T_k), bits
  encoder_probability: jax.Array  # [R] of the encoder's choice, among all N
  decoder_probability: jax.Array  # [R, K] of the same, before the message


@functools.partial(
  jax.jit, static_argnames=('networks', 'num_decoders', 'num_candidates')
)
def prepare(
  key: jax.Array, params, left, right, *, networks, num_decoders, num_candidates
) -> Trials:
  """Draws crops and candidates of R images and weighs the candidates.

  Image r depends on (key, r), its crop k on (key, r, k). Memory is O(R K N).

  Args:
    key: typed key.
    params: of the networks.
    left: [R, H, W], where the crops are taken.
    right: [R, H, W], the sources.
    networks: static, see `Networks`.
    num_decoders: K, the most that will be used; static.
    num_candidates: N; static.

  Returns:
    `Trials`.
  """
  config = networks.config

  def draw(r, left):
    crop_key, book_key = jax.random.split(jax.random.fold_in(key, r))
    sides = side_information.random_crops(
      crop_key, left, num_decoders, config.side_shape
    )
    return sides, *_draw_candidates(
      book_key, num_candidates, config.latent_size
    )

  sides, race_keys, label_keys, latents = jax.vmap(draw)(
    jnp.arange(left.shape[0]), left
  )

  def weigh(args):
    source, sides, latents = args
    decoders = jax.vmap(lambda t: networks.estimate(params, latents, t))(sides)
    return encoder_log_weights(params, source, latents, networks), decoders

  weights = jax.lax.map(weigh, (right, sides, latents))
  return Trials(race_keys, label_keys, latents, *weights, sides)


@jax.jit
def draw_labels(trials: Trials, num_messages) -> jax.Array:
  """iid labels [R, N] of the paper; the number of messages is traced."""
  count = trials.latents.shape[1]
  return jax.vmap(lambda key: labels.random_labels(key, count, num_messages))(
    trials.label_keys
  )


@functools.partial(jax.jit, static_argnames=('num_decoders', 'shared_race'))
def transmit(
  trials: Trials, tags, *, num_decoders, shared_race=False
) -> Outcome:
  """Sends every image to the first `num_decoders` of its decoders.

  The information density is log2 q(w | a) / prior(w) minus log2 of the
  estimator's odds, normalised to mean 1 over the candidates.

  Args:
    trials: from `prepare`.
    tags: [R, N] labels.
    num_decoders: K; static.
    shared_race: static, see `codec.encode`.

  Returns:
    `Outcome`.
  """
  options = dict(num_decoders=num_decoders, shared_race=shared_race)

  def one(key, tags, source, decoders):
    index, message = codec.encode(key, source, tags, **options)
    choice = jax.vmap(
      lambda k, w: codec.decode(key, w, tags, message, decoder=k, **options)
    )(jnp.arange(num_decoders), decoders)  # [K]
    heard = jax.nn.log_softmax(decoders, axis=-1)[:, index]  # [K]
    density = source[index] - heard - jnp.log(tags.shape[0])
    is_match = (choice == index) & (index >= 0)
    meant = jax.nn.softmax(source)[index]
    return Outcome(
      message, choice, is_match, density / jnp.log(2.0), meant, jnp.exp(heard)
    )

  return jax.vmap(one)(
    trials.race_keys,
    tags,
    trials.encoder_weights,
    trials.decoder_weights[:, :num_decoders],
  )


def reconstruct(params, trials: Trials, index, *, networks) -> jax.Array:
  """Reconstructions [R, K, H, W] from the decoders' candidates [R, K]."""
  rows = jnp.arange(index.shape[0])
  return jnp.stack(
    [
      _decode_batch(
        params, trials.latents[rows, index[:, k]], trials.sides[:, k], networks
      )
      for k in range(index.shape[1])
    ],
    axis=1,
  )


@functools.partial(jax.jit, static_argnums=3)
def _decode_batch(params, latents, sides, networks):
  return networks.decode(params, latents, sides)
