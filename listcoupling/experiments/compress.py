"""Images to one file of messages and back, at K decoders apart.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5, with the bytes that it
implies: every image is one block, its message takes log2 L bits for all
decoders together. Candidates, labels and races of block r are rebuilt from
(key, r) on either side; the key is in the file, the networks are not: the file
names them by a digest. The side information never meets the encoder; crops
are written by `encode` for trials only, where whole images are given.

Legend: R images, N candidates, K decoders, L messages, D latent size.
"""

import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import tqdm

from listcoupling.compression import container
from listcoupling.compression import images as image_codec
from listcoupling.compression import labels as candidate_labels
from listcoupling.data import side_information
from listcoupling.experiments import image_files
from listcoupling.models import vae
from listcoupling.training import vae as training

LABELS = ('random', 'balanced', 'lattice')
_CHUNK = 64  # images of one compiled call
_CROP = 1 << 31  # folded into the seed's key: where `encode` takes crops


class Model(NamedTuple):
  """Trained networks and what names them in a file."""

  networks: vae.Networks
  params: Any
  digest: bytes


def load_model(directory) -> Model:
  """Reads what scripts/train_vae.py trained; no image is needed.

  Args:
    directory: holds checkpoints/ and train_config.json, or a model/ that does.

  Returns:
    `Model`.

  Raises:
    FileNotFoundError: if there is no finished training in it.
  """
  directory = pathlib.Path(directory)
  if (directory / 'model' / 'train_config.json').is_file():
    directory = directory / 'model'
  path = directory / 'train_config.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'{directory} holds no train_config.json; name the workdir of '
      'scripts/train_vae.py, or its model folder.'
    )
  config = ml_collections.ConfigDict(json.loads(path.read_text()))
  model_config = training.check_config(config)
  state = training.init_state(jax.random.key(0), config, model_config)
  checkpoints = (directory / 'checkpoints').absolute()
  if not checkpoints.is_dir():
    raise FileNotFoundError(f'{checkpoints} is missing; train first.')
  with ocp.CheckpointManager(checkpoints) as manager:
    step = manager.latest_step()
    if step is None:
      raise FileNotFoundError(f'{checkpoints} holds no checkpoint.')
    state = manager.restore(step, args=ocp.args.StandardRestore(state))
  return make_model(model_config, state.params)


def make_model(model_config: vae.VAEConfig, params) -> Model:
  """`Model` of parameters at hand.

  Example:
    >>> config = vae.VAEConfig((8, 4), (3, 3), kind='dense')
    >>> model = make_model(config, vae.init_params(jax.random.key(0), config))
    >>> len(model.digest)
    32
  """
  sizes = {k: str(v) for k, v in vars(model_config).items()}
  digest = container.digest(params, sizes)
  return Model(vae.networks(model_config), params, digest)


def _codebook(key, row, coded: container.Coded, size):
  """`images.Codebook` of one block; `row` may be traced."""
  book = image_codec.make_codebook(
    jax.random.fold_in(key, row), coded.num_candidates, coded.num_messages, size
  )
  # Beside the keys that make_codebook draws from the block's own.
  label_key = jax.random.fold_in(jax.random.fold_in(key, row), 7)
  if coded.labels == 'balanced':
    tags = candidate_labels.balanced_labels(
      label_key, coded.num_candidates, coded.num_messages
    )
    return book._replace(labels=tags)
  if coded.labels == 'lattice':
    offset = candidate_labels.lattice_dither(
      label_key, coded.width, coded.num_messages, size
    )
    tags = candidate_labels.lattice_labels(
      book.latents, coded.width, coded.num_messages, offset
    )
    return book._replace(labels=tags)
  return book


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


def _static(coded: container.Coded) -> tuple:
  """The fields that the compiled functions depend on; hashable."""
  return coded._replace(messages=None, indices=None, shape=None)


@functools.partial(jax.jit, static_argnames=('networks', 'fields'))
def _encode(rows, images, key, params, *, networks, fields):
  def one(x):
    row, image = x
    book = _codebook(key, row, fields, networks.config.latent_size)
    return image_codec.encode_image(
      params,
      image,
      book,
      networks=networks,
      num_decoders=fields.num_decoders,
      shared_race=fields.shared_race,
    )

  return jax.lax.map(one, (rows, images))


@functools.partial(jax.jit, static_argnames=('networks', 'fields'))
def _decode(rows, messages, sides, key, params, decoder, *, networks, fields):
  def one(x):
    row, message, side = x
    book = _codebook(key, row, fields, networks.config.latent_size)
    return image_codec.decode_image(
      params,
      message,
      side,
      book,
      networks=networks,
      decoder=decoder,
      num_decoders=fields.num_decoders,
      shared_race=fields.shared_race,
    )

  return jax.lax.map(one, (rows, messages, sides))


def split_source(images, config: vae.VAEConfig):
  """(left or None, right) of whole images, or of sources as they are.

  Raises:
    ValueError: for images of another size or colour.
  """
  shape, whole = images.shape[1:], list(config.source_shape)
  whole[1] *= 2
  if shape == tuple(config.source_shape):
    return None, images
  if shape == tuple(whole):
    return side_information.split_halves(images, colour=images.ndim == 4)
  raise ValueError(
    f'the images have shape {shape}; this model codes {config.source_shape}, '
    f'the right half of {tuple(whole)}.'
  )


def encode(
  model: Model,
  images,
  *,
  seed: int,
  num_decoders: int,
  num_messages: int,
  num_candidates: int,
  labels: str = 'random',
  width: float = 0.0,
  shared_race: bool = False,
  with_indices: bool = False,
) -> container.Coded:
  """Codes sources [R, H, W(, C)] in [0, 1].

  Args:
    model: the networks.
    images: the sources.
    seed: of the shared key, which goes into the file.
    num_decoders: K.
    num_messages: L.
    num_candidates: N.
    labels: one of `LABELS`.
    width: of lattice labels.
    shared_race: the baseline of the paper.
    with_indices: add log2 N bits per image, by which a decoder can tell how
      often it found the encoder's candidate.

  Returns:
    `container.Coded`.

  Raises:
    ValueError: for images of another shape, or settings that make no sense.
  """
  shape = tuple(model.networks.config.source_shape)
  if images.shape[1:] != shape:
    raise ValueError(
      f'the images have shape {images.shape[1:]}, the model codes {shape}.'
    )
  if labels not in LABELS:
    raise ValueError(f'labels must be one of {LABELS}, got {labels!r}.')
  key = jax.random.key(seed)
  words = tuple(int(word) for word in jax.random.key_data(key))
  coded = container.Coded(
    words,
    num_candidates,
    num_decoders,
    num_messages,
    tuple(images.shape),
    np.zeros(len(images), int),
    model.digest,
    'images',
    labels,
    float(np.float32(width)),
    shared_race,
  )
  container.to_bytes(coded)  # settings are checked before the work
  encoding = _chunks(
    functools.partial(
      _encode,
      key=key,
      params=model.params,
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


def take_crops(model: Model, left, num_decoders, seed) -> np.ndarray:
  """Crops [R, K, h, w(, C)] of the left halves, as trials need them."""
  key = jax.random.fold_in(jax.random.key(seed), _CROP)
  crop = functools.partial(
    side_information.random_crops,
    num=num_decoders,
    shape=model.networks.config.side_shape,
  )
  keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(len(left)))
  return np.asarray(jax.vmap(crop)(keys, jnp.asarray(left)))


def check_decoder(coded: container.Coded, crops, decoder, side_shape) -> int:
  """The decoder to be, if the side information is its own.

  Args:
    coded: the file.
    crops: `image_files.Crops`.
    decoder: index from 0, or None to take that of the crops.
    side_shape: the model's.

  Raises:
    ValueError: if decoder, crops and file do not belong together.
  """
  if decoder is None:
    decoder = crops.decoder
  if decoder is None:
    raise ValueError('decoder must be given: the crops do not name theirs.')
  if not 0 <= decoder < coded.num_decoders:
    raise ValueError(
      f'decoder must be in 0..{coded.num_decoders - 1}, got {decoder}.'
    )
  if crops.decoder is not None and crops.decoder != decoder:
    raise ValueError(
      f'the side information is that of decoder {crops.decoder}, not of '
      f'{decoder}.'
    )
  if crops.key_data is not None and crops.key_data != coded.key_data:
    raise ValueError(
      'the side information belongs to a file of another key '
      f'{crops.key_data}, this one has {coded.key_data}.'
    )
  wanted = (len(coded.messages), *side_shape)
  if crops.side.shape != wanted:
    raise ValueError(
      f'the side information must have shape {wanted}, got {crops.side.shape}.'
    )
  return decoder


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
  if coded.model_digest != model.digest:
    raise container.ModelError('the file was made with another model.')
  config = model.networks.config
  if coded.source != 'images' or coded.labels not in LABELS:
    raise container.HeaderError(
      f'the file holds {coded.source} with {coded.labels} labels, not images.'
    )
  if tuple(coded.shape[1:]) != tuple(config.source_shape):
    raise container.HeaderError(
      f'the file is of images {coded.shape[1:]}, the model of '
      f'{config.source_shape}.'
    )
  crops = image_files.Crops(side, None, None)
  check_decoder(coded, crops, decoder, config.side_shape)
  key = jax.random.wrap_key_data(jnp.array(coded.key_data, jnp.uint32))
  return _chunks(
    functools.partial(
      _decode,
      key=key,
      params=model.params,
      decoder=decoder,
      networks=model.networks,
      fields=_static(coded),
    ),
    (coded.messages.astype(np.int32), side),
    len(side),
    'decode',
  )
