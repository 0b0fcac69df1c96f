"""Images to one file of messages and back, at decoders of their own.

    python scripts/compress.py encode --images IMAGES --file OUT \\
        [--model DIR [--scheme gls]] [--crops DIR] [--num_messages 16]
    python scripts/compress.py decode --file IN --side SIDE --decoder 0 \\
        --output DIR_OR_NPY [--model DIR] [--images IMAGES] [--nowhole]
    python scripts/compress.py inspect --file IN

DIR is a workdir of scripts/train_vae.py or scripts/evaluate_compression.py.
Without --model it is the shipped codec of MNIST digits: list_quantiser alone,
of 16 messages to 2 decoders. IMAGES: a picture, a folder of them (all that
Pillow reads), npy or IDX. The right half of a picture is coded, of a larger one
the right half of every tile of the model's size. --crops writes decoder_K.npz,
parts of the left halves, for trials. SIDE is such a file or your own side
information: one entry per tile in the order of the images' names, or, where the
model knows the whole left half or columns of it, pictures like those encoded;
as IMAGES, or an npz with one array, or one called "side". It needs --decoder.
Pictures come back whole where it is known what lies where, see --whole.
--images tells decode the truth, for MSE and PSNR of what was coded.
"""

import listcoupling.early_exits  # noqa: F401

import json

from absl import flags

from listcoupling import command
from listcoupling.image_codec import bitstream, commands

_COMMANDS = ('encode', 'decode', 'inspect')
_FORMAT = flags.DEFINE_enum('format', 'text', ['text', 'json'], 'Report.')
flags.DEFINE_string('model', None, 'Workdir of a training; else what ships.')
flags.DEFINE_enum(
  'scheme', None, bitstream.SCHEME_NAMES,
  'encode: of --model, gls if left out; the shipped codec is a list_quantiser.'
)  # fmt: skip
flags.DEFINE_float('beta', None, 'encode: of the VAE, where there are several.')
flags.DEFINE_string('images', None, 'Picture, folder of them, npy or IDX.')
flags.DEFINE_string('file', None, 'The coded file.')
flags.DEFINE_bool('overwrite', False, 'encode: replace --file.')
flags.DEFINE_bool('names', True, "encode: keep the pictures' names.")
flags.DEFINE_string('crops', None, "encode: folder for the decoders' crops.")
flags.DEFINE_string('side', None, 'decode: npz, npy, IDX or pictures.')
flags.DEFINE_string('output', None, 'decode: new folder of PNG, or an npy.')
flags.DEFINE_bool('whole', None, 'decode: pictures with their known part.')
flags.DEFINE_integer('decoder', None, 'decode: which one, from 0.')
flags.DEFINE_integer('num_decoders', 2, 'encode: K.')
flags.DEFINE_integer('num_messages', 16, 'encode: L; log2 L bits per image.')
flags.DEFINE_integer(
  'num_candidates', None, 'encode: N; as evaluated or fitted, else 256.'
)
flags.DEFINE_integer(
  'num_groups', 1, 'encode: G groups of decoders, of candidates of their own.'
)
flags.DEFINE_integer(
  'bin_size', None, 'encode: M of a list quantiser; as evaluated, else 1.'
)
command.define_seed(0, 'encode: of the shared key.')
flags.DEFINE_string('labels', None, 'encode: random, balanced, lattice.')
flags.DEFINE_float('width', 0.0, 'encode: of lattice labels.')
flags.DEFINE_bool('shared_race', False, 'encode: the baseline of the paper.')
flags.DEFINE_bool('indices', False, 'encode: let decoders count their matches.')


def main(argv):
  """Runs one command and prints its report."""
  values = flags.FLAGS.flag_values_dict()
  commands.check_flags(argv[1], {x for x in values if flags.FLAGS[x].present})
  report = getattr(commands, argv[1])(values)
  if _FORMAT.value == 'json':
    print(json.dumps(report))
  else:
    print(commands.as_text(report))


if __name__ == '__main__':
  command.run(main, choices=_COMMANDS)
