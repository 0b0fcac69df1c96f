"""Pictures to one file of messages and back, at K decoders apart.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, with the bytes that it
implies: every source is one block, its message takes log2 L bits for all
decoders together. Scheme and key are in the file, the networks are not: the
file names them by a digest. The side information never meets the encoder.

A picture of any size is cut in tiles of the height and twice the width of a
source, row by row; what the last ones lack repeats the edge. The right half of
a tile is a block to code, side information is taken of its left half. A picture
as large as a source is one.

Legend: P pictures, T tiles of each, R = P T blocks, N candidates, K decoders, L
messages, G groups, M codewords of a bin, [H, W] source, [h, w] side
information; in colour with a last axis C.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling import gumbel, validation
from listcoupling.data import image_files, side_information
from listcoupling.image_codec import bitstream, fits
from listcoupling.image_codec import scheme as schemes

_CHUNK = 64  # images of one compiled call, fewer of many candidates
_CANDIDATES = 1 << 20  # of one compiled call
_UNKNOWN = 0.5  # pixels that neither message nor side information tells


class Blocks(NamedTuple):
  """Pictures as a model codes them."""

  left: np.ndarray | None  # [R, H, W]; None where the pictures are sources
  right: np.ndarray  # [R, H, W], the sources
  size: tuple[int, int]  # height and width of a picture, (0, 0) for sources


def cut(pictures, source_shape) -> Blocks:
  """Pictures as blocks, a right half and what lies to its left in each tile.

  Args:
    pictures: [P, height, width(, C)]; tiles are H x 2 W, filled up with the
      nearest pixels. Of the size of a source they are sources themselves.
    source_shape: (H, W) or (H, W, C) of the model.

  Returns:
    `Blocks` of R = P * tiles, those of one picture in a row.

  Raises:
    ValueError: for pictures smaller than a tile, or of other colours.

  Example:
    >>> cut(np.zeros((5, 8, 9)), (8, 4)).right.shape  # 2 tiles, one padded
    (10, 8, 4)
  """
  height, width, *colours = source_shape
  shape = pictures.shape[1:]
  if shape == tuple(source_shape):
    return Blocks(None, pictures, (0, 0))
  tile = height, 2 * width
  kind, fault = 'RGB' if colours else 'grey', ''
  if list(shape[2:]) != colours:
    fault = f'in other colours; convert them to {kind}'
  elif any(all_ < one for all_, one in zip(shape, tile)):
    fault = 'too small; enlarge them'
  if fault:
    raise ValueError(
      f'the images have shape {shape}, {fault}: this model codes {kind} '
      f'pictures of {(*tile, *colours)}, larger ones in tiles, and right '
      f'halves alone of {tuple(source_shape)}.'
    )
  left, right = np.split(_to_tiles(pictures, tile), 2, axis=2)
  return Blocks(left, right, shape[:2])


def _to_tiles(pictures, tile) -> np.ndarray:
  """[P, height, width(, C)] -> [P T, *tile(, C)]."""
  rest = [-size % one for size, one in zip(pictures.shape[1:], tile)]
  padding = [(0, 0), *((0, size) for size in rest)]
  padding += [(0, 0)] * (pictures.ndim - 3)
  padded = np.pad(pictures, padding, mode='edge')
  down, across = (size // one for size, one in zip(padded.shape[1:], tile))
  apart = padded.reshape(
    len(padded), down, tile[0], across, tile[1], *padded.shape[3:]
  )
  return apart.swapaxes(2, 3).reshape(-1, *tile, *padded.shape[3:])


def _chunks(function, arrays, rows, step, name):
  """`function` over equal chunks of rows, with progress; one compilation."""
  step, found = min(step, rows), []
  with tqdm.tqdm(total=rows, desc=name, unit='image') as progress:
    for start in range(0, rows, step):
      part = np.minimum(np.arange(start, start + step), rows - 1)
      chunk = function(part.astype(np.int32), *(x[part] for x in arrays))
      found.append(jax.tree.map(np.asarray, chunk))
      progress.update(min(step, rows - start))
  return jax.tree.map(lambda *x: np.concatenate(x)[:rows], *found)


def _step(container: bitstream.Container) -> int:
  """Images of one compiled call."""
  return max(1, min(_CHUNK, _CANDIDATES // container.num_candidates))


def _settings(container: bitstream.Container) -> schemes.Settings:
  """Of the compiled functions; another seed does not compile again."""
  return schemes.Settings(
    *(getattr(container, name) for name in schemes.Settings._fields)
  )


def _key(container: bitstream.Container) -> jax.Array:
  words = jnp.array(container.key_data, jnp.uint32)
  return jax.random.wrap_key_data(words, impl='threefry2x32')


def plan(
  trained: fits.Trained,
  shape,
  *,
  seed: int,
  num_decoders: int,
  num_messages: int,
  num_candidates: int | None = None,
  num_groups: int = 1,
  labels: str | None = None,
  width: float = 0.0,
  shared_race: bool = False,
  names: tuple[str, ...] = (),
  picture: tuple[int, int] = (0, 0),
) -> bitstream.Container:
  """The file to be, its messages still 0; nothing is computed yet.

  Args:
    trained: the networks, and by them the scheme.
    shape: (R, H, W(, C)) of the sources.
    seed: of the shared key, which goes into the file.
    num_decoders: K.
    num_messages: L.
    num_candidates: N; None takes that of `trained`, which alone can settle it
      for a list quantiser (its L K M codewords) and for a lattice.
    num_groups: G, divides K.
    labels: of gls: "random" (None), "balanced" or "lattice".
    width: of lattice labels.
    shared_race: one race for all decoders, of gls alone.
    names: of the pictures, or none.
    picture: height and width of a picture, `Blocks.size`; 0: blocks are all.

  Raises:
    ValueError: for images of another shape, or settings that make no sense.
  """
  key_data = jax.random.key_data(gumbel.seed_key(seed))
  container = bitstream.Container(
    scheme=trained.scheme,
    key_data=tuple(np.asarray(key_data).tolist()),
    num_candidates=(
      trained.num_candidates if num_candidates is None else num_candidates
    ),
    num_decoders=num_decoders,
    num_messages=num_messages,
    shape=tuple(shape),
    messages=np.zeros(shape[0], np.int32),
    model_digest=trained.digest,
    labels=labels or bitstream.DEFAULT_LABELS[trained.scheme],
    num_groups=num_groups,
    width=width,
    shared_race=shared_race,
    names=names,
    picture=picture,
  )
  check_model(trained, container)
  return container._replace(width=float(np.float32(width)))  # as in the file


def check_model(trained: fits.Trained, container: bitstream.Container) -> None:
  """Raises ContainerError unless the networks can code such a file.

  Raises:
    bitstream.ModelError: for a file of other networks.
  """
  bitstream.check(container)
  c, config = container, trained.model.config
  if c.model_digest != trained.digest:
    raise bitstream.ModelError(
      f'the file was made with model {c.model_digest.hex()[:12]}, this one is '
      f'{trained.digest.hex()[:12]}; decode with the model that encoded.'
    )
  if c.scheme != trained.scheme:
    raise bitstream.ContainerError(
      f'the file is of {c.scheme}, the model of {trained.scheme}.'
    )
  if tuple(c.shape[1:]) != tuple(config.source_shape):
    raise bitstream.ContainerError(
      f'the images have shape {tuple(c.shape[1:])}, the model codes '
      f'{tuple(config.source_shape)}.'
    )
  count = c.num_messages * c.num_groups
  # The search of lattice_multipliers grows fast with L G and D.
  reach = 2 * int(np.ceil(count ** (1 / config.latent_size))) + 1
  work = reach**config.latent_size * min(count, 8000)
  if c.labels == 'lattice' and count > 1 and work > 1e9:
    raise bitstream.ContainerError(
      f'num_messages must be less for lattice labels in {config.latent_size} '
      f'dimensions, got {c.num_messages}.'
    )
  if trained.model.fit is not None:
    _check_fit(trained.model.fit, c)


def _check_fit(fit, c: bitstream.Container) -> None:
  """Raises ContainerError unless the fit has the file's codewords."""
  if c.bin_size > 1 and fit.classifier is None:
    raise bitstream.ContainerError(
      f'bin_size must be 1: the fit has no classifier, got {c.bin_size}.'
    )
  own = schemes.SCHEMES[c.scheme]
  wanted = own.num_codewords(
    c.num_decoders, c.num_messages, c.num_groups, c.bin_size
  )
  if len(fit.codewords) != wanted or c.num_decoders > fit.config.max_decoders:
    raise bitstream.ContainerError(
      f'the fit of {c.scheme} is of {len(fit.codewords)} codewords and up to '
      f'{fit.config.max_decoders} decoders; {c.num_messages} messages to '
      f'{c.num_decoders} decoders need {wanted} codewords.'
    )
  numbers = wanted << fit.config.latent_size
  if own.has_lattice and c.num_candidates != numbers:
    raise bitstream.ContainerError(
      f'num_candidates of a lattice of {wanted} cosets in '
      f'{fit.config.latent_size} dimensions must be {numbers}, got '
      f'{c.num_candidates}.'
    )


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _encode(key, model, rows, images, *, name, settings):
  scheme = schemes.SCHEMES[name]
  prepared = scheme.prepare(key, rows, model, settings, images=images)
  return scheme.encode(model, prepared, images, settings)


@functools.partial(jax.jit, static_argnames=('name', 'settings'))
def _decode(key, model, decoder, rows, messages, sides, *, name, settings):
  scheme, sides = schemes.SCHEMES[name], sides[:, None]  # [B, 1, h, w]
  prepared = scheme.prepare(key, rows, model, settings, sides=sides)
  decoding = scheme.decode(
    model, prepared, messages, sides, decoder[None], settings
  )
  return decoding.index[:, 0], decoding.images[:, 0]


def encode(
  trained: fits.Trained, images, *, with_indices: bool = False, **settings
) -> bitstream.Container:
  """Codes sources [R, H, W(, C)] in [0, 1].

  Args:
    trained: the networks.
    images: the sources.
    with_indices: add log2 N bits per image, by which a decoder can tell how
      often it found the encoder's candidate.
    **settings: seed, num_decoders, num_messages and, where they are not usual,
      num_candidates, num_groups, labels, width, shared_race, names and picture;
      see `plan` in this module.

  Returns:
    `bitstream.Container`.

  Raises:
    ValueError: as `plan`, for pixels that do not lie in [0, 1], or for an image
      that no candidate stands for.
  """
  images = np.asarray(images, np.float32)
  if images.size and not (0 <= images.min() and images.max() <= 1):
    raise ValueError(
      f'images must lie in [0, 1], got {images.min():g} to {images.max():g}; '
      'divide bytes by 255.'
    )
  container = plan(trained, images.shape, **settings)
  function = functools.partial(
    _encode, _key(container), trained.model, name=trained.scheme,
    settings=_settings(container),
  )  # fmt: skip
  encoding = _chunks(
    function, (images,), len(images), _step(container), 'encode'
  )
  if np.any(encoding.index < 0):
    raise _no_candidate(container, int(np.argmax(encoding.index < 0)))
  indices = encoding.index if with_indices else None
  return container._replace(messages=encoding.message, indices=indices)


def _no_candidate(container, block: int) -> validation.ItemError:
  """The error of a block, which names its picture."""
  picture, tile = divmod(block, container.num_tiles)
  words = 'gives no candidate any weight'
  if container.num_tiles > 1:
    words += f' in tile {tile} of {container.num_tiles}, from 0'
  if container.names:
    words = f'({container.names[picture]}) {words}'
  return validation.ItemError('images', picture, f'{words}.')


def decode(
  trained: fits.Trained, container: bitstream.Container, side, decoder: int
):
  """One decoder's images of a file and its side information.

  Args:
    trained: the encoder's networks.
    container: the file.
    side: [R, h, w(, C)].
    decoder: index from 0.

  Returns:
    index [R] int32 and images [R, H, W(, C)] float32.

  Raises:
    bitstream.ContainerError: for a file of another model, or with a message
      that no candidate carries.
    ValueError: as `check_decoder`.

  Example:
    >>> from listcoupling import image_codec
    >>> trained = image_codec.shipped_codec()
    >>> blocks = image_codec.cut(np.zeros((2, 28, 28)), (28, 14))
    >>> file = encode(
    ...     trained, blocks.right, seed=0, num_decoders=2, num_messages=16)
    >>> index, images = decode(trained, file, blocks.left, decoder=0)
    >>> images.shape
    (2, 28, 14)
  """
  check_model(trained, container)
  side = np.asarray(side, np.float32)
  known = image_files.SideInformation(side)
  check_decoder(container, known, decoder, trained.model.config.side_shape)
  function = functools.partial(
    _decode, _key(container), trained.model, jnp.int32(decoder),
    name=trained.scheme, settings=_settings(container),
  )  # fmt: skip
  messages = np.asarray(container.messages, np.int32)
  index, images = _chunks(
    function, (messages, side), len(side), _step(container), 'decode'
  )
  if np.any(index < 0):
    row = int(np.argmax(index < 0))
    raise bitstream.ContainerError(
      f'messages[{row}] is {messages[row]}, which no candidate carries: not a '
      'file of this encoder.'
    )
  return index, images


def check_decoder(
  container: bitstream.Container,
  known: image_files.SideInformation,
  decoder: int | None,
  side_shape,
) -> int:
  """The decoder to be, if the side information is its own.

  Args:
    container: the file.
    known: what the decoder knows.
    decoder: index from 0, or None to take that of `known`.
    side_shape: the model's.

  Raises:
    ValueError: if decoder, side information and file do not belong together.
  """
  decoder = known.decoder if decoder is None else decoder
  if decoder is None:
    raise ValueError(
      'decoder must be given: the side information does not name its own.'
    )
  if not 0 <= decoder < container.num_decoders:
    raise ValueError(
      f'decoder must be in 0..{container.num_decoders - 1}, got {decoder}.'
    )
  if known.decoder not in (None, decoder):
    raise ValueError(
      f'the side information is that of decoder {known.decoder}, not of '
      f'{decoder}.'
    )
  if known.key_data not in (None, container.key_data):
    raise ValueError(
      'the side information belongs to a file of another key '
      f'{known.key_data}, this one has {container.key_data}.'
    )
  wanted = (container.shape[0], *side_shape)
  if known.side.shape != wanted:
    raise ValueError(
      f'the side information must have shape {wanted}, got {known.side.shape}.'
    )
  return decoder


def _fixed_corner(kind: str, shape, source_shape) -> tuple[int, int] | None:
  """(row, column) in the left half where side information always lies.

  Args:
    kind: of `data.side_information.KINDS`.
    shape: (h, w) or (h, w, C) of the side information.
    source_shape: of a half.

  Returns:
    None if its place is random, or if it is no part of the left half.

  Example:
    >>> _fixed_corner('edge', (28, 4), (28, 14))
    (0, 10)
    >>> _fixed_corner('crop', (28, 14), (28, 14))
    (0, 0)
    >>> _fixed_corner('crop', (7, 7), (28, 14))
  """
  is_whole = tuple(shape[:2]) == tuple(source_shape[:2])
  if kind == 'edge' or (kind == 'crop' and is_whole):
    return 0, source_shape[1] - shape[1]
  return None


def take_crops(
  trained: fits.Trained, left, num_decoders: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Side information for trials: parts of left halves.

  Args:
    trained: whose decoders will look at them.
    left: [R, H, W(, C)], see `cut`.
    num_decoders: K.
    seed: of the places, where the model does not fix them.

  Returns:
    The parts, [R, K, h, w(, C)], and where they lie, [R, K, 2].

  Raises:
    ValueError: for a model whose side information is no part of a left half.

  Example:
    >>> trained = fits.load_model(
    ...     fits.SHIPPED, scheme='list_quantiser', num_decoders=2,
    ...     num_messages=16)
    >>> parts, corners = take_crops(trained, np.zeros((3, 28, 14)), 2, seed=0)
    >>> parts.shape, corners.shape  # all of the left half
    ((3, 2, 28, 14), (3, 2, 2))
  """
  shape, kind = trained.model.config.side_shape, trained.side_kind
  corner = _fixed_corner(kind, shape, left.shape[1:])
  if corner is not None:
    corners = np.broadcast_to(corner, (len(left), num_decoders, 2))
  elif kind == 'crop':
    corners = np.asarray(
      side_information.random_corners(
        gumbel.seed_key(seed), len(left), num_decoders, left.shape[1:], shape
      )
    )
  else:
    raise ValueError(
      f'crops must be of a model that knows a part of the left half; what '
      f'decoders of this one know is of kind {kind!r}.'
    )
  crops = [[_part(image, corner, shape) for corner in row]
           for image, row in zip(left, corners)]  # fmt: skip
  return np.asarray(crops), corners


def _part(image, corner, shape) -> np.ndarray:
  """A view of `shape` into an image."""
  (row, column), (height, width) = corner, shape[:2]
  return image[row : row + height, column : column + width]


def place_side(
  trained: fits.Trained,
  container: bitstream.Container,
  known: image_files.SideInformation,
) -> image_files.SideInformation:
  """Side information as blocks, with its place if that can be told.

  Args:
    trained: the networks.
    container: the file.
    known: of the blocks, or pictures of which this decoder knows a part that
      always lies at one place, such as the left half.

  Raises:
    ValueError: for places outside of the left half.
  """
  config, side = trained.model.config, known.side
  shape, source = config.side_shape, config.source_shape
  corner = _fixed_corner(trained.side_kind, shape, source)
  corners, blocks = known.corners, container.shape[0]
  if corner is not None:
    if side.shape[1:3] == container.picture != (0, 0):
      left = np.asarray(cut(side, source).left)
      side = np.stack([_part(image, corner, shape) for image in left])
    if corners is None:
      corners = np.broadcast_to(corner, (blocks, 2))
  if corners is None:
    return known
  if len(side) != blocks or len(corners) != blocks:
    raise ValueError(
      f'the side information must have {blocks} entries, one for each block '
      f'of the file, got {len(side)} with {len(corners)} corners.'
    )
  room = np.subtract(source[:2], shape[:2])
  if corners.shape != (blocks, 2) or np.any((corners < 0) | (corners > room)):
    raise ValueError(
      f'corners of the side information must be {blocks} places in '
      f'(0, 0)..{tuple(room.tolist())}, got {corners.tolist()[:3]}...'
    )
  return known._replace(side=side, corners=corners)


def check_whole(container: bitstream.Container) -> None:
  """Raises ValueError for a file of sources that are no part of a picture."""
  if not any(container.picture):
    raise ValueError(
      'whole pictures cannot be made: the file is of images that are sources '
      f'of {container.shape[1:]} themselves.'
    )


def _from_tiles(tiles, size) -> np.ndarray:
  """[P T, *tile(, C)] -> [P, *size(, C)]."""
  tile, colours = tiles.shape[1:3], tiles.shape[3:]
  down, across = (-(-all_ // one) for all_, one in zip(size, tile))
  apart = tiles.reshape(-1, down, across, *tile, *colours).swapaxes(2, 3)
  padded = apart.reshape(-1, down * tile[0], across * tile[1], *colours)
  return padded[:, : size[0], : size[1]]


def join(
  container: bitstream.Container,
  images,
  known: image_files.SideInformation,
) -> np.ndarray:
  """Decoded blocks as whole pictures, the side information beside them.

  Args:
    container: the file; it holds the size of the pictures.
    images: [R, H, W(, C)] decoded.
    known: what the decoder knows; without corners it is left out. What is
      left of a tile is grey.

  Returns:
    [P, height, width(, C)].

  Raises:
    ValueError: if sources were coded that are no part of a picture.
  """
  check_whole(container)
  unknown = np.full_like(images, _UNKNOWN)
  tiles = np.concatenate([unknown, images], axis=2)
  if known.corners is not None:
    for tile, side, corner in zip(tiles, known.side, known.corners):
      _part(tile, corner, side.shape)[:] = side
  return _from_tiles(tiles, container.picture)
