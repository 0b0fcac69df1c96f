"""When kernels of our own take the place of XLA: on one NVIDIA GPU.

They are written in Pallas for Triton. A process without a GPU neither imports
nor traces them; everywhere else, and over several devices, XLA's programs are
the path, and they are what the kernels are tested against.
"""

import importlib.util

import jax
from jax.sharding import AxisType

RACE = True  # `race_kernel`
ATTENTION = True  # `models.attention_kernel`


def at_hand() -> bool:
  """Whether a kernel can stand in the program that is being traced.

  Choose then by `jax.lax.platform_dependent(..., cuda=kernel)`: the program
  may still be one for the CPU.
  """
  return jax.default_backend() == 'gpu' and _on_one_device() and _has_triton()


def _on_one_device() -> bool:
  """Whether the compiler shares nothing out: it cannot divide a kernel."""
  mesh = jax.sharding.get_abstract_mesh()
  return not any(
    kind != AxisType.Manual and mesh.shape[name] > 1
    for name, kind in zip(mesh.axis_names, mesh.axis_types)
  )


def _has_triton() -> bool:
  return importlib.util.find_spec('jax.experimental.pallas.triton') is not None
