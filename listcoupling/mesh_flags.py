"""Flags of scripts that run on several devices or in several processes."""

import jax
from absl import flags

from listcoupling.decoding import placement

_MESH = flags.DEFINE_string(
  'mesh', '', 'Devices by axis: data (rows), fsdp, tp; such as data=2,tp=4.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'One of several processes, see --coordinator.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0; found on Slurm and TPU pods.'
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'Number, likewise.')
_PROCESS = flags.DEFINE_integer('process', None, 'Of this one, from 0.')


def mesh():
  """Joins the other processes if asked to, and makes the mesh or None.

  To be called before anything runs on a device.

  Raises:
    ValueError: no such mesh, or not the same one in all processes.
  """
  if _DISTRIBUTED.value:
    jax.distributed.initialize(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    )
  with placement.agreed(jax.process_count() > 1) as agree:
    agree(mesh=_MESH.value)
    return placement.parse_mesh(_MESH.value)
