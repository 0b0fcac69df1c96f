"""Flags of scripts that may be one of several processes."""

import jax
from absl import flags

_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'One of several processes, see --coordinator.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0; found on Slurm and TPU pods.'
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'Number, likewise.')
_PROCESS = flags.DEFINE_integer('process', None, 'Of this one, from 0.')


def join() -> None:
  """Joins the other processes if asked to, before anything is on a device."""
  if _DISTRIBUTED.value:
    jax.distributed.initialize(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    )
