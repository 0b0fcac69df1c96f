"""Programs of a 7B target with a .5B drafter, compiled for chips not at hand.

The compilers of TPU and CUDA work for a topology that is only named. What they
make of prefill and of the loop over blocks tells memory, exchanges between
devices, serial loops and sorts without running anything. Parameters are shapes
alone; widths are those of Qwen2.5 7B and .5B (arXiv 2412.15115). Figures of
CUDA are without autotuning and without Triton products.

Needs libtpu and jax-cuda13-plugin (`pip install listcoupling[aot]`); no TPU
and no GPU.
"""

import dataclasses
import functools
import math
import os
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from listcoupling import gumbel, program_text
from listcoupling.decoding import filters, loop, placement
from listcoupling.decoding.drafters import as_drafter
from listcoupling.decoding.language_model import LanguageModel
from listcoupling.decoding.methods import METHODS
from listcoupling.decoding.options import GenerateOptions
from listcoupling.models import sharding, transformer
from listcoupling.models.transformer_config import TransformerConfig

# As a process with such a device would describe it; no package ships it.
_H100 = """
gpu_device_info {
  threads_per_warp: 32  threads_per_block_limit: 1024
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472  threads_per_core_limit: 2048
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800
  device_memory_size: 84942979072  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'CUDA_VISIBLE_DEVICES': '-1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
}
_COMPILER = {
  'tpu': {},
  'h100': {
    'xla_gpu_enable_triton_gemm': False,
    'xla_gpu_autotune_level': 0,
    'xla_gpu_enable_command_buffer': '',
    'xla_gpu_enable_cub_radix_sort': False,
  },
}
_VOCABULARY = 152064  # of the target; the drafter's is 128 less
_FULL = (28, 24)  # layers of target and drafter
_RACES = 0.05  # MB for races and filters, less than a sum of any layer


class Case(NamedTuple):
  """A program to compile, and the most that its figures may be."""

  name: str
  platform: str  # 'tpu' (v5p) or 'h100'
  program: str  # 'prefill', 'run', or 'span' of `generate_many`
  batch: int  # B
  capacity: int  # T
  options: GenerateOptions
  tp: int  # devices that share vocabulary, heads and perceptron
  most: dict  # figure -> ceiling


def _options(**kwargs):
  return GenerateOptions(num_drafts=8, draft_length=4, **kwargs)


CASES = (
  Case(
    'prefill of 8 prompts on 4 TPUs',
    *('tpu', 'prefill', 8, 4096, _options(top_k=50), 4),
    most={'temporary_gb': 1, 'collective-permute_mb': 0, 'serial_loops': 0},
  ),
  Case(
    'blocks of 8 rows on 4 TPUs',
    *('tpu', 'run', 8, 4096, _options(top_k=50), 4),
    most={
      'temporary_gb': 1,
      'collective-permute_mb': 0,
      'beside_sums_mb': _RACES,
      'largest_collective_mb': 2,
      'serial_loops': 0,
      'long_sorts': 0,
    },
  ),
  Case(
    'prefill of one long prompt',
    *('h100', 'prefill', 1, 32896, _options(), 1),
    most={'temporary_gb': 1},
  ),
  Case(
    'prefill of 32 prompts',
    *('h100', 'prefill', 32, 4224, _options(), 1),
    most={'temporary_gb': 8, 'all_gb': 40},
  ),
  Case(
    'blocks of 32 rows under top-p',
    *('h100', 'run', 32, 4224, _options(top_p=0.9), 1),
    most={'temporary_gb': 8, 'all_gb': 40, 'long_sorts': 0},
  ),
)


def choose(word: str = '', methods=(), program: str = 'run') -> list[Case]:
  """Cases by name.

  Args:
    word: in their names.
    methods: blocks on 4 TPUs with each of these in place of `CASES`; 'all'
      stands for every method.
    program: 'run' or 'span', of `methods`.

  Raises:
    ValueError: for another method, or if none is left.
  """
  cases = CASES
  if methods:
    methods = METHODS if 'all' in methods else methods
    cases = [_blocks(method, program) for method in methods]
  found = [case for case in cases if word in case.name]
  if not found:
    names = '; '.join(case.name for case in cases)
    raise ValueError(f'{word!r} is in no name of: {names}.')
  return found


def _blocks(method: str, program: str) -> Case:
  """The case of blocks on 4 TPUs with another method; one draft if it must.

  Its ceilings are for every method: nothing serial, no cache between devices.
  """
  if method not in METHODS:
    raise ValueError(
      f'no method is called {method!r}; take all or some of: '
      f'{", ".join(METHODS)}.'
    )
  (case,) = [case for case in CASES if case[1:3] == ('tpu', 'run')]
  several = METHODS[method].drafts and not METHODS[method].single_draft
  drafts = case.options.num_drafts if several else 1
  target, _ = configs()
  heads = target.num_kv_heads // case.tp
  keys = 2 * case.batch * heads * case.capacity * target.head_dim  # of a layer
  return case._replace(
    name=f'{program} of {case.name}, {method}',
    program=program,
    options=dataclasses.replace(case.options, method=method, num_drafts=drafts),
    most={
      'collective-permute_mb': 0,
      'largest_collective_mb': keys / 2 / 1e6,
      'serial_loops': 0,
      'long_sorts': 0,
    },
  )


def sums_mb(case: Case, layers) -> float:
  """Megabytes that a block's forwards sum up between devices, on paper.

  One of the embeddings, and in each layer one of the heads and one of the
  perceptrons where they divide; in bfloat16, a loop once.

  Args:
    case: of blocks.
    layers: of target and drafter.
  """
  target, drafter = configs(layers)
  options, tokens = case.options, [(target, 1)]
  if METHODS[options.method].drafts:
    opened = options.draft_length + 1
    tokens = [
      (target, 1 + options.tree_nodes()),
      (drafter, opened + options.num_drafts),
    ]
  sizes = (
    count * config.hidden_size * _sums(config, case.tp)
    for config, count in tokens
  )
  return 2 * case.batch * sum(sizes) / 1e6


def _sums(config: TransformerConfig, devices: int) -> int:
  """Of one token, in a model that so many devices share."""
  if devices == 1:
    return 0
  shared = [
    size % devices == 0
    for size in (config.num_kv_heads, config.intermediate_size)
  ]
  return (config.vocab_size % devices == 0) + config.num_layers * sum(shared)


def prepare() -> None:
  """Keeps plugins from looking for hardware; before JAX starts a backend."""
  os.environ.update(_ENVIRONMENT)
  jax.config.update('jax_platforms', 'cpu')


def devices(platform: str) -> list:
  """Named devices: four v5p chips, or eight H100.

  Raises:
    RuntimeError: the compiler is not installed.
  """
  if platform == 'tpu':
    found = topologies.get_topology_desc('v5p:2x2x1', 'tpu')
  else:
    found = topologies.get_topology_desc(
      '', 'cuda', target_config=_H100, topology='1x1x8'
    )
  return found.devices


def configs(layers=_FULL) -> tuple[TransformerConfig, TransformerConfig]:
  """Of target and drafter with so many layers, in bfloat16."""
  common = dict(rope_theta=1e6, qkv_bias=True, dtype='bfloat16')
  target = TransformerConfig(
    *(_VOCABULARY, 3584, layers[0], 28, 4, 128, 18944),
    tie_embeddings=False,
    **common,
  )
  drafter = TransformerConfig(
    *(_VOCABULARY - 128, 896, layers[1], 14, 2, 64, 4864), **common
  )
  return target, drafter


def _models(layers, mesh: Mesh) -> list[LanguageModel]:
  """Target and drafter of shapes that lie as `generate` places arrays."""
  key = jax.eval_shape(lambda: gumbel.seed_key(0))
  models = []
  for config in configs(layers):
    shapes = jax.eval_shape(
      functools.partial(transformer.init_params, config=config), key
    )
    shared = sharding.shared_sizes(
      config, mesh, vocab_size=_VOCABULARY, strict=False
    )

    def place(leaf, spec):
      own = NamedSharding(mesh, spec)
      return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=own)

    params = jax.tree.map(place, shapes, sharding.specs(shapes, shared))
    models.append(transformer.make_language_model(config, params))
  return models


def _over_rows(tree, mesh: Mesh):
  """Rows over 'data', the key heads of caches over 'tp' where they divide."""

  def place(leaf):
    heads = leaf.ndim == 4 and leaf.shape[1] % mesh.shape['tp'] == 0
    spec = PartitionSpec('data', 'tp') if heads else placement.ROWS
    own = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=own)

  return jax.tree.map(place, tree)


def _program(case: Case, layers, mesh: Mesh):
  """A function and the shapes of its arguments, placed on a mesh."""
  target, drafter = _models(layers, mesh)
  own, params = as_drafter(drafter)
  sampler = loop.make_sampler(
    target, [own], case.options, vocab_size=_VOCABULARY, capacity=case.capacity
  )
  params = loop.Params(target.params, (params,))
  struct, size = jax.ShapeDtypeStruct, (case.batch,)
  tokens = struct((*size, case.capacity), jnp.int32)
  rows = tokens, struct(size, jnp.int32), struct(size, bool)
  rows = _over_rows(rows, mesh)
  sampling = filters.sampling_params(case.options)
  prefill = functools.partial(
    placement.per_shard(loop.prefill, mesh, (False, True, True, True, False)),
    sampler=sampler,
  )
  if case.program == 'prefill':
    return jax.jit(prefill), (params, *rows, sampling)
  state = jax.eval_shape(prefill, params, *rows, sampling)
  keys = jax.eval_shape(
    lambda: jax.random.split(gumbel.seed_key(0), case.batch)
  )
  keys, *state = _over_rows((keys, *state), mesh)
  function, static = loop.run, {}
  if case.program == 'span':
    function, static = loop.span, dict(blocks=8, enough=1)
  run = functools.partial(
    placement.per_shard(function, mesh, (True, False, False, True, True)),
    sampler=sampler,
    **static,
  )
  places = jax.tree.map(lambda leaf: leaf.sharding, tuple(state))
  donated = dict(donate_argnums=(3, 4), out_shardings=places)
  return jax.jit(run, **donated), (keys, params, sampling, *state)


def _bytes(placed) -> int:
  """Bytes on one device."""
  total = 0
  for leaf in jax.tree.leaves(placed):
    if not hasattr(leaf, 'sharding'):
      continue  # a number that comes from the host
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      shard = leaf.sharding.shard_shape(leaf.shape)
      total += math.prod(shard) * leaf.dtype.itemsize
  return total


def measure(case: Case, layers=(2, 2)) -> tuple[dict, str]:
  """Compiles a case and reads its figures.

  Args:
    case: of `CASES` or another.
    layers: of target and drafter. Temporaries do not grow with them while no
      cache is copied; `all_gb` adds parameters and caches of 28 and 24 layers.

  Returns:
    Figures by name (GB and MB are 10^9 and 10^6 bytes per device) and the
    program's text.
  """
  chips = np.array(devices(case.platform)[: case.tp])
  mesh = placement.standard_mesh(Mesh(chips, ('tp',)))
  began = time.process_time()
  with jax.enable_x64(False):
    function, args = _program(case, layers, mesh)
    lowered = function.lower(*args)
    compiled = lowered.compile(compiler_options=_COMPILER[case.platform])
    # Parameters and state of the full depth, in place for either program.
    _, full = _program(case._replace(program='run'), _FULL, mesh)
  text = compiled.as_text()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  by_kind = dict.fromkeys(program_text.COLLECTIVES, 0)
  by_kind |= program_text.collective_bytes(text)
  exchanges = [op.size for op in program_text.collectives(text)]
  figures = {
    'temporary_gb': temporary / 1e9,
    'all_gb': (_bytes(full) + temporary) / 1e9,
    'serial_loops': len(program_text.serial_loops(text)),
    'long_sorts': len(program_text.sorts(text, _VOCABULARY // 2)),
    **{f'{kind}_mb': size / 1e6 for kind, size in by_kind.items()},
    'largest_collective_mb': max(exchanges, default=0) / 1e6,
  }
  if case.program != 'prefill':  # which reads prompts in chunks
    sums = sums_mb(case, layers)
    figures['beside_sums_mb'] = figures['all-reduce_mb'] - sums
  return figures | {'cpu_seconds': time.process_time() - began}, text


def over(case: Case, figures: dict) -> list[str]:
  """The figures above their ceilings, in words."""
  return [
    f'{case.name}: {name} is {figures[name]:.3g}, at most {ceiling:.3g}'
    for name, ceiling in case.most.items()
    if figures[name] > ceiling
  ]


def as_text(case: Case, figures: dict) -> str:
  """One line per case with what is not zero."""
  shown = ', '.join(
    f'{name} {value:.3g}' for name, value in figures.items() if value
  )
  return f'{case.name}: {shown}'
