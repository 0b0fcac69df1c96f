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

# The one place for the address of the project; links appear once it has one.
_URL = ''
_DOCS = ['docutils>=0.22', 'furo>=2025.9', 'myst-nb>=1.3', 'sphinx>=8.1']
_EXPERIMENTS = [
  'importlib_resources>=6.5',  # tensorflow-datasets needs it undeclared
  'matplotlib>=3.10',
  'ml_collections>=1.1.0',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  'pillow>=12.0',
  'pyarrow>=18.0',
  'rouge-score>=0.1.2',
  'scikit-learn>=1.7',
  'tensorboardX>=2.6.4',
  'tensorflow-datasets>=4.9.10',
]

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
  author='listcoupling authors',
  license='Apache-2.0',
  url=_URL or None,
  project_urls={'Documentation': f'{_URL}/docs'} if _URL else {},
  keywords=[
    'coupling',
    'Gumbel-max',
    'JAX',
    'lossy compression',
    'speculative decoding',
  ],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  # Scripts and configs travel with the wheel, for the console command.
  packages=[
    *find_packages(include=['listcoupling', 'listcoupling.*']),
    'listcoupling.checkout.configs',
    'listcoupling.checkout.scripts',
  ],
  package_dir={
    'listcoupling.checkout.configs': 'configs',
    'listcoupling.checkout.scripts': 'scripts',
  },
  package_data={
    'listcoupling': ['py.typed'],
    'listcoupling.image_codec': ['shipped/*.md', 'shipped/*/*'],
    'listcoupling.models': ['shipped/*.md', 'shipped/*/*'],
  },
  entry_points={
    'console_scripts': ['listcoupling = listcoupling.__main__:main']
  },
  python_requires='>=3.11,<3.14',
  install_requires=[
    'absl-py>=2.3',
    'chex>=0.1.92',
    'flax>=0.12.8',
    'huggingface_hub>=1.0',
    'jax>=0.10.2',
    'numpy>=2.2',
    'safetensors>=0.7.0',
    'tokenizers>=0.22',
    'tqdm>=4.67',  # huggingface_hub brings it, too
  ],
  extras_require={
    'chat': ['jinja2>=3.1'],  # chat templates
    'images': ['pillow>=12.0', 'ml_collections>=1.1.0'],  # compress
    'experiments': _EXPERIMENTS,
    'docs': _DOCS,
    'test': [
      *_EXPERIMENTS,
      *_DOCS,
      'hypothesis>=6.140',
      'ipykernel>=7.0',
      'jinja2>=3.1',
      'mypy>=1.18',
      'nbclient>=0.10.2',
      'nbformat>=5.10',
      'pytest>=9.0',
      'pytest-xdist>=3.8',
      'ruff>=0.14',
      'setuptools>=77',  # builds the wheel that is tested
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
