"""Flags of scripts that run on several devices or in several processes."""

import jax
from absl import flags

from listcoupling import process_flags
from listcoupling.decoding import placement

_MESH = flags.DEFINE_string(
  'mesh', '', 'Devices by axis: data (rows), fsdp, tp; such as data=2,tp=4.'
)
flags.adopt_module_key_flags(process_flags)


def mesh():
  """Joins the other processes if asked to, and makes the mesh or None.

  To be called before anything runs on a device.

  Raises:
    ValueError: no such mesh, or not the same one in all processes.
  """
  process_flags.join()
  with placement.agreed(jax.process_count() > 1) as agree:
    agree(mesh=_MESH.value)
    return placement.parse_mesh(_MESH.value)
