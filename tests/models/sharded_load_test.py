"""Loading onto a mesh: every device reads what it holds, and no more.

python -m tests.models.sharded_load_test DIRECTORY    the checks, in a process
that has eight host devices before JAX starts.
"""

import os
import pathlib
import subprocess
import sys
import weakref

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from listcoupling import gumbel
from listcoupling.decoding import placement
from listcoupling.models import checkpoint_format, pretrained, transformer
from listcoupling.models.families import FAMILIES
from listcoupling.models.transformer_config import TransformerConfig

MESHES = (
  dict(tp=2),
  dict(data=2, tp=4),  # more than key heads: each is there twice
  dict(fsdp=2, tp=2, data=2),
)
# A bias on each head, tensors of several parts, norms over all heads.
NAMES = ('qwen2', 'phi3', 'olmo2')


def save(name, directory, vocab_size=96):
  config = TransformerConfig(
    *(vocab_size, 32, 1, 8, 2, 8, 48),
    tie_embeddings=False,
    family=name,
    **FAMILIES[name].switches,
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    transformer.init_params(gumbel.seed_key(0), config),
  )
  model = transformer.make_language_model(config, params)
  pretrained.save_pretrained(model, directory)
  return directory


def make_mesh(axes):
  count = int(np.prod(list(axes.values())))
  return Mesh(
    np.array(jax.devices()[:count]).reshape(*axes.values()), tuple(axes)
  )


class Reads:
  """Parts that `Leaf.read` is asked for, and bytes that are held meanwhile."""

  def __init__(self):
    self.shares, self.places = {}, []
    self.held = self.most = 0
    self._read = checkpoint_format.Leaf.read

  def __enter__(self):
    def read(leaf, fetch, index=None):
      def counted(name, rows):
        data = fetch(name, rows)
        self._count(data.nbytes)
        weakref.finalize(data, self._count, -data.nbytes)
        return data

      block = self._read(leaf, counted, index)
      self.shares[leaf.path[-1]] = block.size / np.prod(leaf.shape)
      self.places.append((leaf.path, str(index)))
      return block

    checkpoint_format.Leaf.read = read
    return self

  def __exit__(self, *_):
    checkpoint_format.Leaf.read = self._read

  def _count(self, size):
    self.held += size
    self.most = max(self.most, self.held)


def check(directory):
  """A checkpoint on every mesh beside the same one loaded whole and placed."""
  whole = pretrained.load_pretrained(directory)
  largest = max(leaf.nbytes for leaf in jax.tree.leaves(whole.params))
  for axes in MESHES:
    mesh = make_mesh(axes)
    with Reads() as reads:
      model = pretrained.load_pretrained(directory, mesh=mesh)
    placed = whole.place(whole, placement.standard_mesh(mesh))
    assert model.config == placed.config, axes
    jax.tree.map(same, model.params, placed.params)
    shards = axes.get('tp', 1) * axes.get('fsdp', 1)
    for name in ('qkv', 'attention_out', 'gate_up', 'down', 'embed'):
      assert reads.shares[name] == 1 / shards, (axes, name, reads.shares)
    # Nothing is kept beside the shards, nothing is read for each copy of one.
    assert 0 < reads.most <= largest, (axes, reads.most, largest)
    assert len(set(reads.places)) == len(reads.places), axes


def same(ours, theirs):
  assert ours.sharding == theirs.sharding, (ours.sharding, theirs.sharding)
  np.testing.assert_array_equal(ours, theirs)


def test_shards_are_those_of_the_whole_model(tmp_path):
  program = [sys.executable, '-m', 'tests.models.sharded_load_test', tmp_path]
  out = subprocess.run(
    program,
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
    env=os.environ
    | {
      'JAX_NUM_CPU_DEVICES': '8',
      'JAX_PLATFORMS': 'cpu',
    },
  )
  assert out.returncode == 0, out.stderr[-2000:]
  assert out.stdout.split() == list(NAMES)


def test_what_does_not_fit_a_mesh_is_refused(tmp_path):
  directory = save('qwen2', tmp_path / 'm')
  mesh = Mesh(np.array(jax.devices()[:1]), ('model',))
  with pytest.raises(ValueError, match="an axis 'model'"):
    pretrained.load_pretrained(directory, mesh=mesh)
  with pytest.raises(ValueError, match='must be a jax.sharding.Mesh'):
    pretrained.load_pretrained(directory, mesh='tp=2')


if __name__ == '__main__':
  for family in NAMES:
    check(save(family, pathlib.Path(sys.argv[1]) / family))
    print(family)
