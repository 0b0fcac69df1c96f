"""Installation of listcoupling."""

import pathlib

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_VERSION = next(
  line.split("'")[1]
  for line in (_ROOT / 'listcoupling' / '__init__.py')
  .read_text('utf-8')
  .splitlines()
  if line.startswith('__version__')
)

# Lower bounds as far back as the wheels serve Python 3.11 to 3.13.
setup(
  name='listcoupling',
  version=_VERSION,
  description=(
    'Coupling a list of samples with one sample without communication: '
    'Gumbel-max list sampling, multi-draft speculative decoding and '
    'distributed lossy compression in JAX.'
  ),
  long_description=(_ROOT / 'README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=find_packages(include=['listcoupling', 'listcoupling.*']),
  package_data={
    'listcoupling': ['py.typed'],
    'listcoupling.models': ['shipped/*.md', 'shipped/*/*'],
  },
  python_requires='>=3.11,<3.14',
  install_requires=[
    'absl-py>=2.3',
    'chex>=0.1.92',
    'flax>=0.12.8',
    'huggingface_hub>=1.0',
    'importlib_resources>=6.5',  # tensorflow-datasets needs it undeclared
    'jax>=0.10.2',
    'matplotlib>=3.10',
    'ml_collections>=1.1.0',
    'numpy>=2.2',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.8',
    'pillow>=12.0',  # tensorflow-datasets needs it undeclared
    'pyarrow>=18.0',
    'rouge-score>=0.1.2',
    'safetensors>=0.7.0',
    'scikit-learn>=1.7',
    'scipy>=1.16',
    'tensorboardX>=2.6.4',
    'tensorflow-datasets>=4.9.10',
    'tokenizers>=0.22',
    'tqdm>=4.67',
  ],
  extras_require={
    'chat': ['jinja2>=3.1'],  # chat templates
    'test': [
      'hypothesis>=6.140',
      'ipykernel>=7.0',
      'jinja2>=3.1',
      'nbclient>=0.10.2',
      'nbformat>=5.10',
      'pytest>=9.0',
      'pytest-xdist>=3.8',
      'ruff>=0.14',
    ],
    # For scripts/benchmark.py baselines and tests beside transformers. Without
    # a GPU take torch from https://download.pytorch.org/whl/cpu first.
    'baselines': [
      'torch>=2.8',
      'transformers>=5.0',
    ],
    # For scripts/aot.py, in an environment of its own with Python 3.12.
    'aot': [
      'jax>=0.11.2',
      'jax-cuda13-pjrt>=0.11.2',
      'jax-cuda13-plugin>=0.11.2',
      'libtpu>=0.0.48',
      'nvidia-cuda-cupti',
      'nvidia-cuda-nvcc',
      'nvidia-cuda-nvrtc',
      'nvidia-cuda-runtime',
      'nvidia-nvjitlink',
      'nvidia-nvvm',
    ],
    'cuda': ['jax[cuda13]>=0.10.2'],
    'tpu': ['jax[tpu]>=0.10.2'],
  },
)
