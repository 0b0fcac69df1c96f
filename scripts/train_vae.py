"""Trains the networks of the image codec, see configs/vae_mnist.py.

python scripts/train_vae.py --config configs/vae_mnist.py --workdir runs/mnist
python scripts/train_vae.py --mesh data=8 ...            on eight devices
python scripts/train_vae.py --scheme list_quantiser --num_decoders 2 \\
    --num_messages 16 --bin_size 4 ...                  one more codec

Without --scheme the VAEs, which are all that the scheme gls needs, where
config.schemes has more than a list quantiser, and which
scripts/evaluate_compression.py of this workdir takes. With it what
scripts/compress.py needs for that scheme at these numbers, too, fitted on one
device of process 0; a table, which fits for all its numbers, then needs another
workdir.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, command_flags, together
from listcoupling.image_codec import fits
from listcoupling.image_codec import scheme as schemes
from listcoupling.training import image_fits, vae

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


def _code() -> fits.CodecSizes | None:
  """The codec of --scheme; ValueError for numbers without one, or of none."""
  sizes = _NUM_DECODERS, _NUM_MESSAGES, _NUM_GROUPS
  if _SCHEME.value is None:
    given = [f'--{x.name}' for x in (*sizes, _BIN_SIZE) if x.present]
    if given:
      raise ValueError(f'{", ".join(given)} need --scheme; VAEs serve all.')
    return None
  code = fits.CodecSizes(_SCHEME.value, *(x.value for x in sizes))
  fits.check_code(code, _BIN_SIZE.value)
  return code


def _fit(config, models, code: fits.CodecSizes) -> None:
  """Fits a codec on the VAEs that a table fits it on."""
  codecs = image_fits.Codecs(
    config.train, _WORKDIR.value, vae.load_halves(config.train), models,
    config.refine, num_decoders=[code.num_decoders],
    num_messages=code.num_messages, bin_size=_BIN_SIZE.value,
  )  # fmt: skip
  betas = image_fits.fitted_betas(config, code.scheme)
  settings = [fits.CodecSetting(beta, None, _BIN_SIZE.value) for beta in betas]
  codecs.fit({code: settings})
  for beta in betas:
    _tell(code, beta)


def _tell(code: fits.CodecSizes, beta: float | None) -> None:
  """Prints where a fit is, what its name says and the command that uses it."""
  groups, size = code.num_groups, _BIN_SIZE.value
  count = schemes.SCHEMES[code.scheme].num_codewords(*code[1:], size)
  path = fits.fit_path(
    _WORKDIR.value, code.scheme, count, beta, num_groups=groups, bin_size=size
  )
  print(
    f'{path} has {count} codewords. To use it:\n'
    f'  python scripts/compress.py encode --model {_WORKDIR.value} '
    f'--scheme {code.scheme} --num_decoders {code.num_decoders} '
    f'--num_messages {code.num_messages}'
    + (f' --num_groups {groups}' if groups > 1 else '')
    + (f' --bin_size {size}' if size > 1 else '')
    + ('' if beta is None else f' --beta {beta:g}')
    + ' --images IMAGES --file FILE'
  )


def main(argv):
  """Trains the VAEs that are needed, then fits."""
  del argv
  config, models, code = _CONFIG.value, {}, _code()
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  mesh = _MESH()
  if image_fits.needs_vae([code.scheme] if code else config.schemes):
    models = image_fits.train_models(
      config.train, config.betas, _WORKDIR.value, mesh=mesh
    )
  elif code is None:
    print('config.schemes need no VAE; --scheme fits a list quantiser.')
  if code:
    with together.all_or_none():
      if together.leads():
        _fit(config, models, code)


if __name__ == '__main__':
  command.run(main)
