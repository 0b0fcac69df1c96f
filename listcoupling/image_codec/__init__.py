"""Images to one file for K decoders and back; see `transport` and `scheme`.

Rowan, Phan, Khisti (2025), arXiv 2506.05632, section 5. Nothing here needs what
trained the networks.
"""

from listcoupling.image_codec.bitstream import (
  Container,
  ContainerError,
  ModelError,
  from_bytes,
  read,
  to_bytes,
  write,
)
from listcoupling.image_codec.fits import (
  Trained,
  load_model,
  load_named,
  shipped_codec,
)
from listcoupling.image_codec.scheme import SCHEMES, Scheme
from listcoupling.image_codec.transport import (
  cut,
  decode,
  encode,
  join,
  take_crops,
)

__all__ = [
  'SCHEMES',
  'Container',
  'ContainerError',
  'ModelError',
  'Scheme',
  'Trained',
  'cut',
  'decode',
  'encode',
  'from_bytes',
  'join',
  'load_model',
  'load_named',
  'read',
  'shipped_codec',
  'take_crops',
  'to_bytes',
  'write',
]


def __dir__():
  return __all__
