"""Images to one file of messages and back, at K decoders apart.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, with the bytes that it
implies: every image is one block, its message takes log2 L bits for all
decoders together. The schemes are those of `compress_schemes`; the scheme and
the key are in the file, the networks are not: the file names them by a digest.
The side information never meets the encoder.

Legend: R images, N candidates, K decoders, L messages.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from listcoupling.compression import container
from listcoupling.experiments import compress_schemes, image_files
from listcoupling.experiments.compress_folders import load_model, load_named
from listcoupling.experiments.compress_models import (
  Model,
  make_cells_model,
  make_list_model,
  make_model,
)
from listcoupling.experiments.compress_sides import (
  check_decoder,
  split_source,
  take_crops,
)

__all__ = [
  'LABELS', 'Model', 'check_decoder', 'decode', 'encode', 'load_model',
  'load_named', 'make_cells_model', 'make_list_model', 'make_model', 'plan',
  'split_source', 'take_crops',
]  # fmt: skip

LABELS = compress_schemes.SCHEMES['gls'].labels
_CHUNK = 64  # images of one compiled call


def _chunks(function, arrays, rows, name):
  """`function` over equal chunks of rows, with progress; one compilation."""
  step = min(_CHUNK, rows)
  found = []
  with tqdm.tqdm(total=rows, desc=name, unit='image') as progress:
    for start in range(0, rows, step):
      part = np.minimum(np.arange(start, start + step), rows - 1)
      found.append(
        jax.tree.map(np.asarray, function(part, *(x[part] for x in arrays)))
      )
      progress.update(min(step, rows - start))
  return jax.tree.map(lambda *x: np.concatenate(x)[:rows], *found)


def _key(coded: container.Coded) -> jax.Array:
  return jax.random.wrap_key_data(jnp.array(coded.key_data, jnp.uint32))


def _static(coded: container.Coded) -> tuple:
  """The fields that the compiled functions depend on; hashable.

  Key and digest are none of them: another seed must not compile again.
  """
  return coded._replace(
    messages=None, indices=None, shape=None, key_data=None, model_digest=b''
  )


def plan(
  model: Model,
  shape,
  *,
  seed: int,
  num_decoders: int,
  num_messages: int,
  num_candidates: int | None = None,
  labels: str | None = None,
  width: float = 0.0,
  shared_race: bool = False,
) -> container.Coded:
  """The file to be, its messages still 0; nothing is computed yet.

  Args:
    model: the networks, and by them the scheme.
    shape: (R, H, W(, C)) of the sources.
    seed: of the shared key, which goes into the file.
    num_decoders: K.
    num_messages: L.
    num_candidates: N; None takes the model's.
    labels: of gls, one of `LABELS`; None takes the scheme's first.
    width: of lattice labels.
    shared_race: of gls, the baseline of the paper.

  Raises:
    ValueError: for images of another shape, or settings that make no sense.
  """
  _check_settings(model, shape, num_decoders, num_messages, labels)
  count = model.num_candidates if num_candidates is None else num_candidates
  labels = labels or compress_schemes.SCHEMES[model.scheme].labels[0]
  words = jax.random.key_data(jax.random.key(seed))
  coded = container.Coded(
    tuple(int(word) for word in words), count, num_decoders, num_messages,
    tuple(shape), np.zeros(shape[0], int), model.digest, 'images', labels,
    width, shared_race, None, model.scheme,
  )  # fmt: skip
  container.to_bytes(coded)  # every field is checked
  return coded._replace(width=float(np.float32(width)))  # as the file has it


def _check_settings(model, shape, num_decoders, num_messages, labels) -> None:
  wanted = tuple(model.config.source_shape)
  if tuple(shape[1:]) != wanted:
    raise ValueError(
      f'the images have shape {tuple(shape[1:])}, the model codes {wanted}.'
    )
  known = compress_schemes.SCHEMES[model.scheme].labels
  if labels is not None and labels not in known:
    raise ValueError(
      f'labels of {model.scheme} must be one of {known}, got {labels!r}.'
    )
  compress_schemes.check_fit(model, num_decoders, num_messages)


def encode(
  model: Model, images, *, with_indices: bool = False, **settings
) -> container.Coded:
  """Codes sources [R, H, W(, C)] in [0, 1].

  Args:
    model: the networks.
    images: the sources.
    with_indices: add log2 N bits per image, by which a decoder can tell how
      often it found the encoder's candidate.
    **settings: seed, num_decoders, num_messages and the others of `plan`.

  Returns:
    `container.Coded`.

  Raises:
    ValueError: as `plan`, or for an image that no candidate stands for.
  """
  coded = plan(model, images.shape, **settings)
  encoding = _chunks(
    functools.partial(
      compress_schemes.SCHEMES[model.scheme].encode,
      key=_key(coded),
      params=model.params,
      refined=model.refined,
      networks=model.networks,
      fields=_static(coded),
    ),
    (images,),
    len(images),
    'encode',
  )
  if np.any(encoding.index < 0):
    row = int(np.argmax(encoding.index < 0))
    raise ValueError(f'image {row} gives no candidate any weight.')
  indices = encoding.index if with_indices else None
  return coded._replace(messages=encoding.message, indices=indices)


def decode(model: Model, coded: container.Coded, side, decoder: int):
  """What one decoder makes of a file and its side information.

  Args:
    model: the encoder's networks.
    coded: the file; its digest is that of the model.
    side: [R, h, w(, C)].
    decoder: index from 0.

  Returns:
    index [R] and images [R, H, W(, C)].

  Raises:
    container.ModelError: for a file of another model.
    ValueError: as `check_decoder`, or for a file that holds no images.
  """
  _check_file(model, coded)
  crops = image_files.Crops(side, None, None)
  check_decoder(coded, crops, decoder, model.config.side_shape)
  return _chunks(
    functools.partial(
      compress_schemes.SCHEMES[model.scheme].decode,
      key=_key(coded),
      params=model.params,
      refined=model.refined,
      decoder=decoder,
      networks=model.networks,
      fields=_static(coded),
    ),
    (coded.messages.astype(np.int32), side),
    len(side),
    'decode',
  )


def _check_file(model: Model, coded: container.Coded) -> None:
  """Raises a ContainerError if the file is not one of this model's."""
  container.check_model(coded, model.digest)
  config, scheme = model.config, compress_schemes.SCHEMES[model.scheme]
  if coded.source != 'images':
    raise container.HeaderError(f'the file holds {coded.source}, not images.')
  if coded.scheme != model.scheme:
    raise container.HeaderError(
      f'the file is of {coded.scheme}, the model of {model.scheme}.'
    )
  if coded.labels not in scheme.labels:
    raise container.HeaderError(
      f'the file has {coded.labels} labels, images of {coded.scheme} have one '
      f'of {scheme.labels}.'
    )
  if tuple(coded.shape[1:]) != tuple(config.source_shape):
    raise container.HeaderError(
      f'the file is of images {coded.shape[1:]}, the model of '
      f'{config.source_shape}.'
    )
  compress_schemes.check_fit(model, coded.num_decoders, coded.num_messages)
