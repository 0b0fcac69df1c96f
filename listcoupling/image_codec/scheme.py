"""Four ways to send an image to K decoders in one message, each written once.

`gls` is Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5: candidates
from the prior of a beta-VAE, K races, labels that look at no image. The
encoder weighs candidates by q(w | image) / prior(w), a decoder by exp(logit)
of the estimator: the odds of the joint against the product law, not the
probability. Three are not in the paper. `gls_kmeans` is the same race with
labels that stand for codewords of the source (k-means in pixels) and a decoder
trained on what the codec delivers (`models.codeword_decoder`). `lattice` has
points of a dithered lattice in the latent space of the VAE for codewords and
cosets for messages (`compression.lattices`): a decoder takes the point of its
coset that is nearest to the mean its side information gives, and answers by the
VAE and a network that was trained to better that answer. `list_quantiser` has
no race and shares nothing but its codewords; where a bin holds several, a
classifier of the side information tells them apart
(`compression.list_quantiser`).

A scheme is three functions of B images, as an optax transformation is two of
gradients. Files and tables call the same ones; a file only puts a bitstream
between `encode` and `decode`. All that encoder and decoders of image r share
they draw from (key, r) alone.

Legend: B images, N candidates, K decoders, C of them asked, L messages, G
groups, M codewords of a bin, F codewords, D latent size, P pixels, [H, W]
source, [h, w] side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from listcoupling import bounds, gumbel
from listcoupling.compression import codec, lattices, list_quantiser
from listcoupling.models import codeword_decoder

__all__ = [
  'Codebook',
  'Decoding',
  'Fit',
  'LatticeSpace',
  'Model',
  'Networks',
  'Prepared',
  'SCHEMES',
  'Scheme',
  'Settings',
  'decode_lattice',
  'draw_codebook',
  'draw_labels',
  'encode_lattice',
  'encoder_log_weights',
  'error_bound',
  'lattice_code',
  'vae_images',
]


def __dir__():
  return __all__


# Nats per squared error summed over pixels: enough for the encoder to send
# the nearest codeword unless no candidate stands for it.
_CODEWORD_WEIGHT = 100.0


class Networks(Protocol):
  """The VAE as GLS calls it, see `models.vae.Networks`; a static pytree."""

  config: Any  # latent_size, source_shape, side_shape
  encode: Callable
  decode: Callable
  estimate: Callable


class Fit(NamedTuple):
  """Learned by a scheme for F codewords; a pytree of arrays."""

  codewords: jax.Array  # [F, P]; of a lattice leaders of its cosets, [F, D]
  params: Any  # of the codeword decoder; None before it is trained
  # Params of the labels of gls_kmeans, or of what a side information says of
  # the codewords of a bin; of a lattice the fields of a `LatticeSpace`; else
  # None.
  classifier: Any
  config: codeword_decoder.CodewordDecoderConfig


class LatticeSpace(NamedTuple):
  """Where a lattice lies: at x = w @ transform for a latent w; a pytree."""

  period: jax.Array  # [] see `compression.lattices`
  transform: jax.Array  # [D, D]
  mean: Any  # params of the mean of w given side information


class Model(NamedTuple):
  """All networks of a scheme; a pytree of arrays."""

  networks: Networks | None = None  # of the VAE; list_quantiser has none
  params: Any = None  # theirs
  fit: Fit | None = None  # gls has none

  @property
  def config(self):
    """Has `source_shape`, `side_shape` and `latent_size`."""
    return self.fit.config if self.fit else self.networks.config


class Settings(NamedTuple):
  """Settings that encoder and decoders agree on; hashable.

  `num_messages` alone may be traced, unless labels are "lattice" or the scheme
  is.
  """

  num_candidates: int  # N
  num_decoders: int  # K
  num_messages: Any  # L
  num_groups: int = 1  # G
  labels: str = 'random'  # of gls: or "balanced", "lattice"
  width: float = 0.0  # of lattice labels
  shared_race: bool = False  # of gls: one race for all, the paper's baseline
  bin_size: int = 1  # M, of list_quantiser


class Codebook(NamedTuple):
  """Candidates of B images ~ N(0, I), and keys of what else is shared."""

  latents: jax.Array  # [B, N, D] float32
  race_keys: jax.Array  # [B]
  label_keys: jax.Array  # [B]


class Prepared(NamedTuple):
  """All network passes over candidates; serves every K and L."""

  codebook: Codebook
  encoder_log_weights: jax.Array | None  # [B, N]
  decoder_log_weights: jax.Array | None  # [B, C, N]


class Decoding(NamedTuple):
  """Answers of C decoders to B messages."""

  # [B, C] int32, candidates; -1: the message has none
  index: jax.Array  # type: ignore[assignment]  # tuples have a method index
  codeword: jax.Array | None  # [B, C] int32; None for gls
  latent: jax.Array  # [B, C, D]
  # [B, C, H, W]; without trained parameters what their training starts from,
  # or None.
  images: jax.Array | None


class Scheme(NamedTuple):
  """A way to code images.

  Attributes:
    name: as in files.
    prepare: (key, rows [B], model, settings, images [B, H, W] or None, sides
      [B, C, h, w] or None) -> Prepared, the keys [B] of a lattice's dither, or
      None if nothing is shared. An encoder has images, a decoder sides, a trial
      both. Image r depends on (key, rows[r]).
    encode: (model, prepared, images, settings) -> codec.Encoding of [B].
    decode: (model, prepared, messages [B], sides [B, C, h, w], decoders [C],
      settings) -> Decoding.
    num_codewords: (K, L, G, M) -> F that its fit must have; 0 without a fit.
    number: of its keys, where what is fitted draws some.
    has_vae: the networks of a VAE are among its own.
    has_fit: codewords and networks are learnt from what it delivers; with a VAE
      a classifier is among them.
    has_race: candidates are drawn and race, in any groups of decoders.
    has_lattice: codewords are points of the latent space, for one L, in a group
      for each decoder.
    has_bins: codewords are put in bins of M, in one group.
  """

  name: str
  prepare: Callable[..., Prepared | jax.Array | None]
  encode: Callable[..., codec.Encoding]
  decode: Callable[..., Decoding]
  num_codewords: Callable[[int, int, int, int], int]
  number: int
  has_vae: bool = True
  has_fit: bool = True
  has_race: bool = False
  has_lattice: bool = False
  has_bins: bool = False


def draw_codebook(
  key: jax.Array, rows: jax.Array, num_candidates: int, latent_size: int
) -> Codebook:
  """The codebooks of the images `rows`.

  Args:
    key: typed key of the file or of the trial.
    rows: [B] int32, which images; more of them leave the others alone.
    num_candidates: N, static.
    latent_size: D, static.

  Example:
    >>> book = draw_codebook(gumbel.seed_key(0), jnp.arange(2), 5, 3)
    >>> book.latents.shape
    (2, 5, 3)
  """
  chex.assert_rank(rows, 1)
  domain = gumbel.Domain

  def one(row):
    latent_key, race_key, label_key = (
      gumbel.domain_key(key, which, row)
      for which in (domain.CODEBOOK, domain.RACES, domain.LABELS)
    )
    shape = num_candidates, latent_size
    latents = jax.random.normal(latent_key, shape, jnp.float32)
    return Codebook(latents, race_key, label_key)

  return jax.vmap(one)(rows)


def draw_labels(codebook: Codebook, settings: Settings) -> jax.Array:
  """Labels of gls, which look at no image: [B, N] int32 in 0..L G - 1."""
  count, size = codebook.latents.shape[1:]
  num_messages = settings.num_messages
  groups = {'num_groups': settings.num_groups}

  def one(key, latents):
    if settings.labels == 'random':
      return codec.random_labels(key, count, num_messages, **groups)
    if settings.labels == 'balanced':
      return codec.balanced_labels(key, count, num_messages, **groups)
    offset = codec.lattice_dither(
      key, settings.width, num_messages, size, **groups
    )
    return codec.lattice_labels(
      latents, settings.width, num_messages, offset, **groups
    )

  return jax.vmap(one)(codebook.label_keys, codebook.latents)


def encoder_log_weights(params, image, latents, networks) -> jax.Array:
  """log q(u_i | image) / prior(u_i): [H, W] and [N, D] -> [N]."""
  chex.assert_rank(latents, 2)
  mean, log_std = networks.encode(params, image[None])  # [1, D]
  z = (latents - mean) * jnp.exp(-log_std)
  return 0.5 * jnp.sum(latents**2 - z**2, -1) - jnp.sum(log_std)


def _prepare_race(key, rows, model, settings, images=None, sides=None):
  networks, params = model.networks, model.params
  book = draw_codebook(
    key, rows, settings.num_candidates, networks.config.latent_size
  )

  def weigh(image, latents):
    return encoder_log_weights(params, image, latents, networks)

  def estimate(sides, latents):
    return jax.vmap(lambda side: networks.estimate(params, latents, side))(
      sides
    )

  # An image at a time: scratch memory does not grow with B, and a candidate's
  # weight does not depend on the images around.
  of_encoder, of_decoders = (
    None
    if inputs is None
    else jax.lax.map(lambda x, one=one: one(*x), (inputs, book.latents))
    for one, inputs in ((weigh, images), (estimate, sides))
  )
  return Prepared(book, of_encoder, of_decoders)


def _race_options(settings: Settings) -> dict:
  return {
    'num_decoders': settings.num_decoders,
    'shared_race': settings.shared_race,
    'num_groups': settings.num_groups,
  }


def _encode_race(log_weights, labels, book, settings) -> codec.Encoding:
  """[B, N] weights and labels -> `codec.Encoding` of [B]."""
  chex.assert_equal_shape([log_weights, labels])
  return jax.vmap(
    lambda *arrays: codec.encode(*arrays, **_race_options(settings))
  )(book.race_keys, log_weights, labels)


def _decode_race(labels, prepared, messages, decoders, settings):
  """Candidates [B, C] and their latents [B, C, D]."""
  chex.assert_rank([labels, messages, decoders], [2, 1, 1])
  chex.assert_equal_shape_prefix([labels, messages], 1)
  options = _race_options(settings)

  def one(key, log_weights, labels, message):
    return jax.vmap(
      lambda k, w: codec.decode(key, w, labels, message, decoder=k, **options)
    )(decoders, log_weights)

  book = prepared.codebook
  index = jax.vmap(one)(
    book.race_keys, prepared.decoder_log_weights, labels, messages
  )
  return index, jnp.take_along_axis(book.latents, index[..., None], axis=1)


def _encode_gls(model, prepared, images, settings):
  del model, images  # they are in the weights
  return _encode_race(
    prepared.encoder_log_weights,
    draw_labels(prepared.codebook, settings),
    prepared.codebook,
    settings,
  )


def _decode_gls(model, prepared, messages, sides, decoders, settings):
  labels = draw_labels(prepared.codebook, settings)
  index, latent = _decode_race(labels, prepared, messages, decoders, settings)
  return Decoding(index, None, latent, vae_images(model, latent, sides))


def error_bound(prepared, index, settings):
  """`bounds.codebook_error_bound` [B] of the encoder's candidates [B].

  Args:
    prepared: `Prepared` of a trial: weights of the encoder and of K decoders.
    index: [B] int32, what the encoder chose.
    settings: `Settings`.
  """
  place = index[:, None]
  meant = jax.nn.softmax(prepared.encoder_log_weights)  # [B, N]
  meant = jnp.take_along_axis(meant, place, 1)[:, 0]
  heard = jax.nn.softmax(prepared.decoder_log_weights)  # [B, K, N]
  heard = jnp.take_along_axis(heard, place[:, None], 2)[..., 0]
  return bounds.codebook_error_bound(
    meant, heard, settings.num_messages, num_groups=settings.num_groups
  )


def vae_images(model, latents, sides):
  """Answers [B, C, H, W] of the VAE to latents [B, C, D]."""
  chex.assert_rank(latents, 3)
  chex.assert_equal_shape_prefix([latents, sides], 2)
  flat = (x.reshape(-1, *x.shape[2:]) for x in (latents, sides))
  images = model.networks.decode(model.params, *flat)
  return images.reshape(*latents.shape[:2], *images.shape[1:])


def _kmeans_labels(fit, prepared, settings):
  """[B, N]: the codeword that each candidate stands for."""
  count = settings.num_messages * settings.num_groups
  return jax.lax.map(  # the logits of all at once would be [B, N, F]
    lambda latents: codeword_decoder.classify(
      fit.classifier, latents, count, fit.config.num_codewords
    ),
    prepared.codebook.latents,
  )


def _encode_kmeans(model, prepared, images, settings):
  labels = _kmeans_labels(model.fit, prepared, settings)
  # Squared distances less what is common to all candidates of an image.
  words = jnp.asarray(model.fit.codewords)
  cross = images.reshape(len(images), -1) @ words.T  # [B, F]
  distance = jnp.sum(words**2, -1)[None] - 2 * cross
  penalty = _CODEWORD_WEIGHT * jnp.take_along_axis(distance, labels, axis=1)
  return _encode_race(
    prepared.encoder_log_weights - penalty, labels, prepared.codebook, settings
  )


def _decode_kmeans(model, prepared, messages, sides, decoders, settings):
  labels = _kmeans_labels(model.fit, prepared, settings)
  index, latent = _decode_race(labels, prepared, messages, decoders, settings)
  codeword = jnp.take_along_axis(labels, index, axis=1)
  return _answer(model.fit, index, codeword, latent, sides, settings)


def _answer(
  fit, index, codeword, latent, sides, settings, images=None
) -> Decoding:
  """The answer of the fit's network, from `images` if there are some."""
  if fit.params is not None:
    counts = jnp.full(len(index), settings.num_decoders, jnp.int32)
    images = codeword_decoder.decode(
      fit.params, codeword, latent, sides, counts, fit.config, images
    )
  return Decoding(index, codeword, latent, images)


def _encode_list(model, prepared, images, settings):
  del prepared
  own = list_quantiser.nearest(
    images.reshape(len(images), -1), jnp.asarray(model.fit.codewords)
  )
  message = own // settings.num_decoders % settings.num_messages
  return codec.Encoding(own, message)


def _decode_list(model, prepared, messages, sides, decoders, settings):
  del prepared
  held = list_quantiser.bins(
    messages, len(model.fit.codewords),
    num_decoders=settings.num_decoders, bin_size=settings.bin_size,
  )[:, decoders]  # [B, C, M]  # fmt: skip
  if settings.bin_size > 1:
    scores = codeword_decoder.side_scores(
      model.fit.classifier, sides, model.fit.config
    )  # [B, C, F]
    scores = jnp.take_along_axis(scores, held, axis=-1)
    best = jnp.argmax(scores, -1).astype(jnp.int32)
    held = jnp.take_along_axis(held, best[..., None], axis=-1)
  held = held[..., 0]
  latent = jnp.zeros((*held.shape, model.fit.config.latent_size), jnp.float32)
  return _answer(model.fit, held, held, latent, sides, settings)


def _prepare_lattice(key, rows, model, settings, images=None, sides=None):
  """The key of each image's dither: [B]."""
  del model, settings, images, sides
  dither = gumbel.Domain.DITHER
  return jax.vmap(lambda row: gumbel.domain_key(key, dither, row))(rows)


def lattice_code(settings: Settings, size: int) -> lattices.Code:
  """The cosets of L messages to G groups in D = `size` dimensions."""
  count, groups = settings.num_messages, settings.num_groups
  lattice = lattices.best_lattice(size, count * groups)
  return lattices.make_code(lattice, count, num_groups=groups, size=size)


def encode_lattice(space: LatticeSpace, keys, latents, code):
  """`codec.Encoding` of latents [B, D]; its index is `lattices.number`."""
  chex.assert_rank([keys, latents], [1, 2])
  offset = _dither(keys, code)
  word = lattices.nearest_codeword(
    latents @ space.transform, offset, space.period, code
  )
  index = lattices.number(word, offset, space.period, code)
  count = code.num_messages * code.num_groups
  return codec.Encoding(index, index % count // code.num_groups)


def decode_lattice(space: LatticeSpace, keys, means, messages, decoders, code):
  """Numbers [B, C] and latents [B, C, D] of the points that C decoders take.

  Args:
    space: where the lattice lies.
    keys: [B], the encoder's.
    means: [B, C, D] of the latent, given the side information.
    messages: [B].
    decoders: [C], from 0.
    code: the encoder's.
  """
  chex.assert_rank([keys, means, messages, decoders], [1, 3, 1, 1])
  offset = jnp.broadcast_to(_dither(keys, code)[:, None], means.shape)
  word = lattices.decode(
    messages[:, None], means @ space.transform, offset, space.period, code,
    decoder=decoders[None],
  )  # fmt: skip
  index = lattices.number(word, offset, space.period, code)
  return index, word @ jnp.linalg.inv(space.transform)


def _dither(keys, code):
  return jax.vmap(lambda key: lattices.dither(key, (), code))(keys)  # [B, D]


def _encode_lattice(model, prepared, images, settings):
  code = lattice_code(settings, model.fit.config.latent_size)
  latents, _ = model.networks.encode(model.params, images)
  space = LatticeSpace(**model.fit.classifier)
  return encode_lattice(space, prepared, latents, code)


def _decode_lattice(model, prepared, messages, sides, decoders, settings):
  fit, size = model.fit, model.fit.config.latent_size
  space, code = LatticeSpace(**fit.classifier), lattice_code(settings, size)
  means = codeword_decoder.side_scores(space.mean, sides, fit.config, size)
  index, latent = decode_lattice(
    space, prepared, means, messages, decoders, code
  )
  images = vae_images(model, latent, sides)
  codeword = jnp.zeros_like(index)
  return _answer(fit, index, codeword, latent, sides, settings, images)


SCHEMES = {
  scheme.name: scheme
  for scheme in (
    Scheme(
      'gls',
      _prepare_race,
      _encode_gls,
      _decode_gls,
      lambda k, l, g, m: 0,
      number=0,
      has_fit=False,
      has_race=True,
    ),
    Scheme(
      'gls_kmeans',
      _prepare_race,
      _encode_kmeans,
      _decode_kmeans,
      lambda k, l, g, m: l * g,
      number=1,
      has_race=True,
    ),
    Scheme(
      'list_quantiser',
      lambda *args, **kwargs: None,
      _encode_list,
      _decode_list,
      lambda k, l, g, m: l * k * m,
      number=2,
      has_vae=False,
      has_bins=True,
    ),
    Scheme(
      'lattice',
      _prepare_lattice,
      _encode_lattice,
      _decode_lattice,
      lambda k, l, g, m: l * g,
      number=3,
      has_lattice=True,
    ),
  )
}
