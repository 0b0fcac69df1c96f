"""Trains the networks of the image codec, see configs/vae_mnist.py.

python scripts/train_vae.py --config configs/vae_mnist.py --workdir runs/mnist
python scripts/train_vae.py --mesh data=8 ...            on eight devices
python scripts/train_vae.py --scheme list_quantiser --num_decoders 2 \\
    --num_messages 16 --bin_size 4 ...                  one more codec

Without --scheme the VAEs, which are all that the scheme gls needs; with it what
scripts/compress.py needs for that scheme at these numbers, too.
"""

import listcoupling.early_exits  # noqa: F401

from absl import flags

from listcoupling import command, command_flags
from listcoupling.image_codec import fits
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
_SIZES = {
  name: flags.DEFINE_integer(name, default, f'Of --scheme: {words}.', 1)
  for name, default, words in (
    ('num_decoders', 2, 'K'),
    ('num_messages', 16, 'L'),
    ('num_groups', 1, 'G, which divides K'),
    ('bin_size', 1, 'M of a list quantiser'),
  )
}


def _fit(config, models, code: fits.Code, bin_size: int) -> None:
  """Fits a codec on all VAEs; a list quantiser needs none."""
  codecs = image_fits.Codecs(
    config.train, _WORKDIR.value, vae.load_halves(config.train), models,
    config.refine, num_decoders=[code.num_decoders],
    num_messages=code.num_messages, bin_size=bin_size,
  )  # fmt: skip
  betas = models or [None]
  codecs.fit({code: [fits.Setting(beta, None, bin_size) for beta in betas]})


def main(argv):
  """Trains; scripts/evaluate_compression.py of this workdir goes on."""
  del argv
  config, models = _CONFIG.value, {}
  if _SEED.value is not None:
    config.train.seed = _SEED.value
  *sizes, bin_size = (flag.value for flag in _SIZES.values())
  code = fits.Code(_SCHEME.value or 'gls', *sizes)
  fits.check_code(code, bin_size)
  if code.scheme != 'list_quantiser':
    models = image_fits.train_models(
      config.train, config.betas, _WORKDIR.value, mesh=_MESH()
    )
  if code.scheme != 'gls':
    _fit(config, models, code, bin_size)


if __name__ == '__main__':
  command.run(main)
