"""Loading takes little more memory than the model.

python -m tests.models.memory_test 1.5    the same with about 1.5 GB, and over
                                          eight host devices
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from listcoupling.models import checkpoint_format, config_format
from listcoupling.models.transformer_config import TransformerConfig

# Peak and final resident memory of a load, beside what was there before.
PROGRAM = """
import json, pathlib, sys
import jax, jax.numpy as jnp
from listcoupling.decoding import placement
from listcoupling.models import pretrained

def resident(name):
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(name):
      return 1024 * int(line.split()[1])

jnp.zeros(1).block_until_ready()
mesh = placement.parse_mesh(sys.argv[3])
before = resident('VmRSS')
model = pretrained.load_pretrained(
  sys.argv[1], dtype=jnp.dtype(sys.argv[2]), mesh=mesh
)
jax.block_until_ready(model.params)
size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
if len(sys.argv) > 4:  # the control: a second copy
  copy = jax.block_until_ready(jax.tree.map(jnp.copy, model.params))
print(json.dumps(dict(
  size=size,
  peak=resident('VmHWM') - before,
  after=resident('VmRSS') - before,
)))
"""


def write_checkpoint(directory: pathlib.Path, gigabytes: float) -> None:
  """bfloat16 weights of about this size in two shards."""
  config = TransformerConfig(
    vocab_size=8192,
    hidden_size=1024,
    num_layers=max(1, round(gigabytes * 1e9 / 23e6)),
    num_heads=16,
    num_kv_heads=4,
    head_dim=64,
    intermediate_size=2816,
  )
  raw = config_format.config_json(config, 'bfloat16')
  (directory / 'config.json').write_text(json.dumps(raw))
  table = checkpoint_format.parameter_table(config)
  shapes = [pair for leaf in table for pair in leaf.tensors.items()]
  weight_map = {}
  for shard in range(2):
    name = f'model-{shard + 1:05}-of-00002.safetensors'
    part = {
      tensor: np.full(shape, 0.01, jnp.bfloat16)
      for tensor, shape in shapes[shard::2]
    }
    safetensors.numpy.save_file(part, directory / name)
    weight_map |= dict.fromkeys(part, name)
  index = directory / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))


def measure(directory, dtype: str, mesh: str = '', *control) -> dict:
  """Bytes of the parameters, and of memory at the peak and after."""
  settings = {
    'JAX_PLATFORMS': 'cpu',  # a GPU's memory is not seen
    'JAX_NUM_CPU_DEVICES': '8',
  }
  out = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(directory), dtype, mesh, *control],
    check=True,
    capture_output=True,
    text=True,
    env=os.environ | settings,
  )
  return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.skipif(
  not pathlib.Path('/proc/self/status').exists(), reason='needs /proc'
)
def test_peak_is_near_one_copy(tmp_path):
  write_checkpoint(tmp_path, 0.3)
  figures = measure(tmp_path, 'bfloat16')
  assert figures['size'] > 2.5e8
  assert figures['peak'] < 1.3 * figures['size'], figures
  # Negative control: two copies are seen.
  figures = measure(tmp_path, 'bfloat16', '', 'twice')
  assert figures['peak'] > 1.7 * figures['size'], figures


if __name__ == '__main__':
  with tempfile.TemporaryDirectory() as folder:
    write_checkpoint(pathlib.Path(folder), float(sys.argv[1]))
    for kind in ('bfloat16', 'float32'):
      for devices in ('', 'tp=8', 'data=2,fsdp=4'):
        result = measure(folder, kind, devices)
        copies = result['peak'] / result['size']
        print(kind, devices or 'one', result, f'{copies:.2f} copies')
