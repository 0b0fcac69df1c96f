"""What each scheme of the compressor does with a chunk of images.

`gls` is Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5; `cells` and
`list_quantiser` are those of `image_schemes`. Candidates, labels and races of
block r are rebuilt from (key, r) on either side.

Legend: B images of a chunk, N candidates, K decoders, L messages, D latent
size.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from listcoupling.compression import codec, container, list_quantiser
from listcoupling.compression import images as image_codec
from listcoupling.compression import labels as candidate_labels
from listcoupling.experiments import compress_models, image_schemes
from listcoupling.models import refiner


class Scheme(NamedTuple):
  """One way to code, as functions of a chunk.

  Attributes:
    labels: kinds that it knows; the first is taken if none is named.
    num_cells: (K, L) -> codewords that its fit must have, 0 without a fit.
    encode: (rows [B], images [B, H, W], key, params, refined, *, networks,
      fields) -> `codec.Encoding` of [B].
    decode: (rows [B], messages [B], sides [B, h, w], key, params, refined,
      decoder [], *, networks, fields) -> index [B], images [B, H, W].
  """

  labels: tuple[str, ...]
  num_cells: Callable[[int, int], int]
  encode: Callable
  decode: Callable


_compiled = functools.partial(jax.jit, static_argnames=('networks', 'fields'))


def _codebook(key, row, fields: container.Coded, size):
  """`images.Codebook` of one block of `gls`; `row` may be traced."""
  count, num_messages = fields.num_candidates, fields.num_messages
  book = image_codec.make_codebook(
    jax.random.fold_in(key, row), count, num_messages, size
  )
  # Beside the keys that make_codebook draws from the block's own.
  label_key = jax.random.fold_in(jax.random.fold_in(key, row), 7)
  tags = book.labels
  if fields.labels == 'balanced':
    tags = candidate_labels.balanced_labels(label_key, count, num_messages)
  if fields.labels == 'lattice':
    offset = candidate_labels.lattice_dither(
      label_key, fields.width, num_messages, size
    )
    tags = candidate_labels.lattice_labels(
      book.latents, fields.width, num_messages, offset
    )
  return book._replace(labels=tags)


@_compiled
def _encode_gls(rows, images, key, params, refined, *, networks, fields):
  del refined

  def one(x):
    row, image = x
    return image_codec.encode_image(
      params,
      image,
      _codebook(key, row, fields, networks.config.latent_size),
      networks=networks,
      num_decoders=fields.num_decoders,
      shared_race=fields.shared_race,
    )

  return jax.lax.map(one, (rows, images))


@_compiled
def _decode_gls(
  rows, messages, sides, key, params, refined, decoder, *, networks, fields
):
  del refined

  def one(x):
    row, message, side = x
    return image_codec.decode_image(
      params,
      message,
      side,
      _codebook(key, row, fields, networks.config.latent_size),
      networks=networks,
      decoder=decoder,
      num_decoders=fields.num_decoders,
      shared_race=fields.shared_race,
    )

  return jax.lax.map(one, (rows, messages, sides))


def _cells_codebook(key, row, refined, fields):
  """`images.Codebook` of one block of `cells`: labels by the classifier."""
  book = image_codec.make_codebook(
    jax.random.fold_in(key, row),
    fields.num_candidates,
    fields.num_messages,
    refined.config.latent_size,
  )
  label = refiner.classifier(refined.config.num_cells)
  tags = label(refined.classifier, book.latents, fields.num_messages)
  return book._replace(labels=tags)


@_compiled
def _encode_cells(rows, images, key, params, refined, *, networks, fields):
  def one(x):
    row, image = x
    book = _cells_codebook(key, row, refined, fields)
    weights = image_codec.encoder_log_weights(
      params, image, book.latents, networks
    )
    penalty = image_schemes.cell_penalty(
      image[None], book.labels[None], refined.codewords
    )[0]
    return codec.encode(
      book.race_key,
      weights - penalty,
      book.labels,
      num_decoders=fields.num_decoders,
    )

  return jax.lax.map(one, (rows, images))


@_compiled
def _decode_cells(
  rows, messages, sides, key, params, refined, decoder, *, networks, fields
):
  def one(x):
    row, message, side = x
    book = _cells_codebook(key, row, refined, fields)
    index = codec.decode(
      book.race_key,
      networks.estimate(params, book.latents, side),
      book.labels,
      message,
      decoder=decoder,
      num_decoders=fields.num_decoders,
    )
    return index, book.latents[index]

  index, latents = jax.lax.map(one, (rows, messages, sides))
  return index, _answer(refined, messages, latents, sides, fields)


def _answer(refined, cells, latents, sides, fields):
  """Images [B, H, W] of one decoder of the list."""
  return image_schemes.refine(
    refined, cells[:, None], latents[:, None], sides[:, None],
    fields.num_decoders,
  )[:, 0]  # fmt: skip


@_compiled
def _encode_list(rows, images, key, params, refined, *, networks, fields):
  del rows, key, params, networks  # nothing is shared but the fit
  flat = images.reshape(len(images), -1)
  own = list_quantiser.nearest(flat, jnp.asarray(refined.codewords))
  return codec.Encoding(own, own // fields.num_decoders)


@_compiled
def _decode_list(
  rows, messages, sides, key, params, refined, decoder, *, networks, fields
):
  del rows, key, params, networks
  cells = list_quantiser.decode(messages, num_decoders=fields.num_decoders)
  cells = cells[:, decoder]
  latents = jnp.zeros((len(cells), refined.config.latent_size))
  return cells, _answer(refined, cells, latents, sides, fields)


SCHEMES = {
  'gls': Scheme(
    ('random', 'balanced', 'lattice'),
    lambda num_decoders, num_messages: 0,
    _encode_gls,
    _decode_gls,
  ),
  'cells': Scheme(
    ('cells',),
    lambda num_decoders, num_messages: num_messages,
    _encode_cells,
    _decode_cells,
  ),
  'list_quantiser': Scheme(
    ('cells',),
    lambda num_decoders, num_messages: num_messages * num_decoders,
    _encode_list,
    _decode_list,
  ),
}


def check_fit(model: compress_models.Model, num_decoders, num_messages) -> None:
  """Raises ValueError if the model's fit is for another K or L."""
  wanted = SCHEMES[model.scheme].num_cells(num_decoders, num_messages)
  if not wanted:
    return
  cells, most = len(model.refined.codewords), model.refined.config.max_decoders
  if cells != wanted or num_decoders > most:
    raise ValueError(
      f'the fit of {model.scheme} is of {cells} cells and up to {most} '
      f'decoders; {num_messages} messages to {num_decoders} decoders need '
      f'{wanted} cells.'
    )
