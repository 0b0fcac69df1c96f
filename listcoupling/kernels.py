"""When kernels take the place of XLA: on GPUs of NVIDIA, and on TPUs if asked.

Those for GPUs are our own, written in Pallas for Triton, that for TPUs comes
with JAX. A process without such a device neither imports nor traces them;
everywhere else XLA's programs are the path, and they are what the kernels are
tested against. The switches are read while a program is traced.
"""

import importlib.util

import jax
from jax.sharding import AxisType

RACE = True  # `race_kernel`
ATTENTION = True  # `models.attention_kernel`
# `models.attention_splash`: compiled for TPU v5p, v5e and v6e and equal to XLA
# when interpreted, but not yet run on a chip.
SPLASH = False


def at_hand(backend: str, *, shared_out: tuple[str, ...] = ()) -> bool:
  """Whether a kernel can stand in the program that is being traced.

  Choose then by `jax.lax.platform_dependent(..., cuda=kernel)`, or `tpu=`: the
  program may still be one for the CPU.

  Args:
    backend: the kernel's, 'gpu' or 'tpu'.
    shared_out: axes of the mesh over which the caller shares the kernel's work
      out; the compiler cannot divide a kernel.
  """
  if jax.default_backend() != backend or not _is_whole(shared_out):
    return False
  return backend == 'tpu' or _has_triton()


def _is_whole(shared_out) -> bool:
  """Whether the compiler has no other axis to share out."""
  mesh = jax.sharding.get_abstract_mesh()
  return not any(
    kind != AxisType.Manual and mesh.shape[name] > 1 and name not in shared_out
    for name, kind in zip(mesh.axis_names, mesh.axis_types)
  )


def _has_triton() -> bool:
  return importlib.util.find_spec('jax.experimental.pallas.triton') is not None
