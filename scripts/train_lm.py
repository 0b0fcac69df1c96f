"""Trains a language model and exports it as a Hugging Face directory.

  python scripts/train_lm.py --config configs/lm_target.py --workdir runs/target
  python scripts/train_lm.py --mesh data=2,fsdp=4 ...      on eight devices
  python scripts/train_lm.py --mesh data=8 --distributed   and several processes

The model of the last step lands in WORKDIR/model, or --export: config.json,
model.safetensors, tokenizer.json. A run that was stopped resumes from its last
checkpoint.
"""

import listcoupling.early_exits  # noqa: F401

import jax
from absl import flags

from listcoupling import command, command_flags, together, workdirs
from listcoupling.models import pretrained
from listcoupling.training import language_model

_CONFIG = command.define_config('configs/lm_target.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run.', required=True
)
_SEED = command.define_seed(None, 'Overrides config.seed.')
_DATA = flags.DEFINE_list(
  'data', [], 'Sources to train on, see listcoupling/data/sources.py.'
)
_EXPORT = flags.DEFINE_string(
  'export', None, 'Folder of the model; WORKDIR/model if left out.'
)
_MESH = command_flags.define_mesh()


def main(_):
  """Flags, one call, the export."""
  config = _CONFIG.value
  if _SEED.value is not None:
    config.seed = _SEED.value
  if _DATA.value:
    config.data = tuple(_DATA.value)
  directory = workdirs.as_folder(_EXPORT.value or f'{_WORKDIR.value}/model')
  model, record = language_model.train_and_evaluate(
    config, _WORKDIR.value, mesh=_MESH()
  )
  stored = jax.tree.map(lambda x: x.astype(config.export_dtype), model.params)
  pretrained.save_pretrained(model._replace(params=stored), directory)
  if together.leads():
    print(f'{directory}: {record["parameters"]} parameters, held out:')
    for name, value in record['held_out'].items():
      print(f'  {name} {value:.4g}')


if __name__ == '__main__':
  command.run(main)
