"""Where a generation lies: rows, parameters and caches on a mesh of devices.

A mesh has up to three axes; one that is absent counts as 1:

*   'data' shares the rows. Its shards never talk: each drafts, judges and loops
    over its own rows, and stops when they are done.
*   'tp' shares vocabulary, heads and perceptrons; the compiler places the sums.
*   'fsdp' shares storage alone: parameters are gathered where they are used.

What of a model lies where is the model's business (`LanguageModel.place`).

Legend: B rows.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from listcoupling.together import agreed

AXES = ('data', 'fsdp', 'tp')
ROWS = PartitionSpec('data')
WHOLE = PartitionSpec()


def _check_axes(names) -> None:
  """Raises ValueError for an axis that no mesh here has."""
  if other := [name for name in names if name not in AXES]:
    raise ValueError(
      f"mesh has an axis {other[0]!r}; its axes may be 'data' (rows), 'fsdp' "
      "(storage) and 'tp' (vocabulary, heads, perceptron)."
    )


def standard_mesh(mesh: Mesh) -> Mesh:
  """The same devices with all of `AXES`, in this order, left to the compiler.

  Args:
    mesh: of any of `AXES`; explicit axes, which `jax.make_mesh` makes, are
      taken as automatic ones.

  Raises:
    ValueError: for something else than a mesh, or other names.

  Example:
    >>> mesh = jax.make_mesh((1,), ('tp',))
    >>> dict(standard_mesh(mesh).shape)
    {'data': 1, 'fsdp': 1, 'tp': 1}
  """
  if not isinstance(mesh, Mesh):
    raise ValueError(
      f'mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}; see '
      'jax.make_mesh.'
    )
  _check_axes(mesh.axis_names)
  order = [mesh.axis_names.index(name) for name in AXES if name in mesh.shape]
  sizes = [mesh.shape.get(name, 1) for name in AXES]
  devices = mesh.devices.transpose(order).reshape(sizes)
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_of_all(mesh: Mesh) -> Mesh:
  """`standard_mesh` of a mesh over devices of all processes.

  Raises:
    ValueError: it leaves out one, or as `standard_mesh`.
  """
  mesh, count = standard_mesh(mesh), jax.process_count()
  left_out = set(range(count))
  left_out -= {device.process_index for device in mesh.devices.flat}
  if left_out:
    raise ValueError(
      f'the mesh {dict(mesh.shape)} has no device of process {min(left_out)}; '
      f'take one over the devices of all {count} processes.'
    )
  return mesh


def mesh_of(params) -> Mesh | None:
  """The mesh of several devices that parameters lie on already."""
  for leaf in jax.tree.leaves(params):
    placed = getattr(leaf, 'sharding', None)
    if isinstance(placed, NamedSharding) and placed.mesh.size > 1:
      return placed.mesh
  return None


def one_device(models) -> jax.Device | None:
  """The device that models were put on; None if no one chose any.

  Args:
    models: parameters by what they are called.

  Raises:
    ValueError: they lie on several.
  """
  found = {}
  for name, params in models.items():
    for leaf in jax.tree.leaves(params):
      if getattr(leaf, 'committed', False):
        found |= {device: name for device in leaf.devices() - found.keys()}
  if len(found) > 1:
    (device, name), (other, its) = list(found.items())[:2]
    raise ValueError(
      f'{name} lies on {device}, {its} on {other}; put both on one device with '
      'jax.device_put, or share them with mesh=.'
    )
  return next(iter(found), None)


def choose_mesh(mesh: Mesh | None, params) -> Mesh | None:
  """The standard form of `mesh`, or of the mesh that `params` lie on."""
  mesh = mesh if mesh is not None else mesh_of(params)
  return None if mesh is None else standard_mesh(mesh)


def parse_mesh(text: str) -> Mesh | None:
  """A mesh over the first devices from text such as 'data=2,tp=4'.

  An empty text is no mesh.

  Raises:
    ValueError: for another form, other names, or more devices than there are.

  Example:
    >>> dict(parse_mesh('tp=1').shape)
    {'data': 1, 'fsdp': 1, 'tp': 1}
  """
  if not text:
    return None
  pairs = [part.partition('=') for part in text.split(',')]
  sizes = {name.strip(): size.strip() for name, _, size in pairs}
  if len(sizes) < len(pairs) or not all(
    size.isdecimal() and int(size) for size in sizes.values()
  ):
    raise ValueError(f'a mesh is written data=2,tp=4, got {text!r}.')
  _check_axes(sizes)
  shape = tuple(map(int, sizes.values()))
  devices = jax.devices()
  if int(np.prod(shape)) > len(devices):
    raise ValueError(
      f'mesh {text} needs {int(np.prod(shape))} devices, there are '
      f'{len(devices)}.'
    )
  devices = np.array(devices[: int(np.prod(shape))]).reshape(shape)
  return standard_mesh(Mesh(devices, tuple(sizes)))


def rows_on(
  mesh: Mesh | None, count: int, bucket: int, unit: str = 'prompts'
) -> int:
  """Rows to compile for `count`: a bucket that 'data' divides.

  Raises:
    ValueError: for fewer rows, called `unit`, than 'data' has shards.
  """
  shards = 1 if mesh is None else mesh.shape['data']
  if count < shards:
    raise ValueError(
      f"{count} {unit} cannot be shared by the mesh's data={shards}; take a "
      f'smaller data axis or more {unit}.'
    )
  return -(-bucket // shards) * shards


def agreement(mesh: Mesh | None, target):
  """Checks of a call that several processes make, see `together.agreed`.

  Args:
    mesh: as given to the call.
    target: whose parameters may lie on one.
  """
  mesh = mesh if mesh is not None else mesh_of(getattr(target, 'params', ()))
  return agreed(isinstance(mesh, Mesh) and mesh.is_multi_process)


def of_first_process(value: float, target) -> float:
  """Process 0's, as float32, on all that share the mesh of `target`."""
  mesh = mesh_of(target.params)
  if mesh is None or not mesh.is_multi_process:
    return value
  return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def put(tree, sharding: NamedSharding):
  """`tree` with every array at `sharding`, from wherever it is.

  On several processes each gives the same values.
  """
  return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


def _put(leaf, sharding):
  if getattr(leaf, 'sharding', None) == sharding:
    return leaf
  local = getattr(leaf, 'is_fully_addressable', True)
  if sharding.is_fully_addressable or not local:
    return jax.device_put(leaf, sharding)
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    data = _put(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
  host = np.asarray(leaf)
  return jax.make_array_from_callback(
    host.shape, sharding, lambda index: host[index]
  )


def on_every_device(array: jax.Array) -> jax.Array:
  """The array, whole on each device of the mesh that it lies on, if any."""
  mesh = mesh_of(array)
  return array if mesh is None else put(array, NamedSharding(mesh, WHOLE))


def put_rows(tree, mesh: Mesh | None, device: jax.Device | None = None):
  """Arrays with the rows first, over 'data'; without a mesh on a device."""
  if mesh is None:
    return tree if device is None else jax.device_put(tree, device)
  return put(tree, NamedSharding(mesh, ROWS))


def like(tree, mesh: Mesh | None):
  """The shardings of a tree of placed arrays; None without a mesh."""
  if mesh is None:
    return None
  return jax.tree.map(lambda leaf: leaf.sharding, tree)


@functools.cache
def per_shard(function: Callable, mesh: Mesh | None, rows: tuple[bool, ...]):
  """`function(*args, **static)` run by every shard of 'data' on its own rows.

  Args:
    function: of pytrees whose arrays have the rows first, or whole ones.
    mesh: in standard form; None leaves the function as it is.
    rows: which arguments have rows; the results have.
  """
  if mesh is None:
    return function

  def shared(*args, **static):
    return jax.shard_map(
      functools.partial(function, **static),
      mesh=mesh,
      in_specs=tuple(ROWS if own else WHOLE for own in rows),
      out_specs=ROWS,
      axis_names={'data'},
      check_vma=False,
    )(*args)

  return shared


def automatic(axis: str) -> int:
  """Shards of an axis that the compiler places, inside a program for a mesh.

  Elsewhere 1.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if axis not in mesh.shape:
    return 1
  kind = mesh.axis_types[mesh.axis_names.index(axis)]
  return mesh.shape[axis] if kind == AxisType.Auto else 1


def everywhere(tree):
  """Small arrays whole on every device, inside a program for a mesh."""
  return jax.lax.with_sharding_constraint(tree, WHOLE)


def shared(array: jax.Array) -> jax.Array:
  """An array whose leading axis lies over 'tp', inside a program for a mesh."""
  return jax.lax.with_sharding_constraint(array, PartitionSpec('tp'))


def fetch(array: jax.Array) -> np.ndarray:
  """The whole of an array, on every process."""
  local = getattr(array, 'is_fully_addressable', True)
  if local or array.is_fully_replicated:
    return np.asarray(array)
  whole = NamedSharding(array.sharding.mesh, WHOLE)
  return np.asarray(jax.jit(lambda x: x, out_shardings=whole)(array))
