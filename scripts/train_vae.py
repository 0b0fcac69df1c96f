"""Trains the networks of the image codec, see configs/vae_mnist.py.

python scripts/train_vae.py --config configs/vae_mnist.py --workdir runs/mnist
python scripts/train_vae.py --scheme list_quantiser --num_messages 16 ...

Trains what the scheme gls needs; with --scheme also what scripts/compress.py
needs for that one at these numbers, on one device of process 0. A table fits
for all its numbers and then needs another workdir.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, command_flags, together
from listcoupling.image_codec import fits
from listcoupling.training import image_fits, run_folder

_CONFIG = command.define_config('configs/vae_digits.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/digits', 'The models go to its model*/, fits to fits/.'
)
_SEED = command.define_seed(None, 'Instead of config.train.seed.')
_MESH = command_flags.define_mesh()
_SCHEME = flags.DEFINE_enum(
  'scheme', None, ('gls_kmeans', 'lattice', 'list_quantiser'), 'Fitted, too.'
)
_NUM_DECODERS = flags.DEFINE_integer('num_decoders', 2, 'K of --scheme.')
_NUM_MESSAGES = flags.DEFINE_integer('num_messages', 16, 'L of --scheme.')
_NUM_GROUPS = flags.DEFINE_integer('num_groups', 1, 'G of --scheme, divides K.')
_BIN_SIZE = flags.DEFINE_integer('bin_size', 1, 'M of a list quantiser.')
_SIZES = _NUM_DECODERS, _NUM_MESSAGES, _NUM_GROUPS, _BIN_SIZE


def _code() -> fits.CodecSizes | None:
  """The codec of --scheme; ValueError for numbers without one, or of none."""
  given = ', '.join(f'--{x.name}' for x in _SIZES if x.present)
  if _SCHEME.value is None:
    if given:
      raise ValueError(f'{given} need --scheme; VAEs serve all.')
    return None
  code = fits.CodecSizes(_SCHEME.value, *(x.value for x in _SIZES[:3]))
  fits.check_code(code, _BIN_SIZE.value)
  return code


def _fit(config, code: fits.CodecSizes, mesh) -> None:
  """Fits a codec and prints its files and the command that uses them."""
  made = image_fits.fit_codec(
    config, _WORKDIR.value, code, _BIN_SIZE.value, mesh=mesh
  )
  words = ' '.join(f'--{x.name} {x.value}' for x in (_SCHEME, *_SIZES))
  for beta, path in made.items():
    on = '' if beta is None else f' --beta {beta:g}'
    print(
      f'{path}, named by the number of its codewords. To use it:\n'
      f'  python scripts/compress.py encode --model {_WORKDIR.value} '
      f'{words}{on} --images IMAGES --file FILE'
    )


def _train(config, mesh) -> None:
  """Trains the VAEs; prints their folders and the end of each history."""
  where = config.train, config.betas, _WORKDIR.value
  image_fits.train_models(*where, mesh=mesh)
  if not together.leads():
    return
  for folder in image_fits.model_folders(*where).values():
    history = run_folder.read_history(folder, config.train.steps)
    print(f'{folder}: trained for {config.train.steps} steps')
    if history:  # a folder that was brought here may hold the model alone
      row = {k: v for k, v in history[-1].items() if k != 'step'}
      print('  ' + ', '.join(f'{k} {v:.4g}' for k, v in row.items()))


def main(argv):
  """Trains the VAEs that are needed, then fits."""
  del argv
  config, code = _CONFIG.value, _code()
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  mesh = _MESH()
  if code:
    _fit(config, code, mesh)
  elif image_fits.needs_vae(config.schemes):
    _train(config, mesh)
  else:
    print('config.schemes need no VAE; --scheme fits a list quantiser.')


if __name__ == '__main__':
  command.run(main)
