"""The folder of a training run: settings, tokenizer, history, checkpoints.

    train_config.json  settings; a run is resumed with the same ones only
    origin.json        digests of text and teacher, compared likewise
    tokenizer.json     what the text was encoded with
    checkpoints/STEP   Orbax: parameters and optimizer state, the last two
    history.json       one row per evaluation
    record.json        what is known of the finished run
    events/            TensorBoard

Of these the image codec (`vae`) keeps settings, history and one checkpoint, and
its TensorBoard folder is tensorboard/.
Small files are written beside their place and renamed.
"""

import json
import os
import pathlib
import tempfile
from typing import Any

import orbax.checkpoint as ocp

# Of a language model: the schedule follows the new number of steps; logs do
# not change the run.
_MAY_CHANGE = ('num_steps', 'checkpoint_every', 'log_every')


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes indented JSON in one step."""
  # A name of its own: two runs may write the same file at once.
  handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
  try:
    with os.fdopen(handle, 'w') as file:
      file.write(json.dumps(value, indent=2) + '\n')
    os.chmod(name, 0o644)  # mkstemp makes private files
    os.replace(name, path)
  finally:
    pathlib.Path(name).unlink(missing_ok=True)


def _changed(path: pathlib.Path, wanted: dict) -> list[str]:
  """Names whose values differ from those in a JSON file, if there is one."""
  kept = json.loads(path.read_text()) if path.exists() else wanted
  names = sorted(kept.keys() | wanted.keys())
  return [
    name
    for name in names  # None is a value: what lacks a name differs
    if name not in kept or name not in wanted or kept[name] != wanted[name]
  ]


def check_settings(config, folder: pathlib.Path, may_change=()) -> None:
  """Raises ValueError if the folder holds a run with other settings.

  Args:
    config: of the run.
    folder: of the run.
    may_change: names that need not be the same.
  """
  changed = _changed(folder / 'train_config.json', json.loads(config.to_json()))
  changed = [name for name in changed if name not in may_change]
  if changed:
    raise ValueError(
      f'{folder} holds a run with other settings of {changed}; resume with '
      'the same settings or choose another --workdir.'
    )


def keep_settings(config, folder: pathlib.Path) -> None:
  """Makes the folder and keeps the settings there; the same are left alone."""
  folder.mkdir(parents=True, exist_ok=True)
  path, wanted = folder / 'train_config.json', json.loads(config.to_json())
  if not path.exists() or _changed(path, wanted):
    write_json(path, wanted)


def open_folder(config, folder: pathlib.Path, tokenizer, origin: dict) -> None:
  """Makes the folder and keeps settings, tokenizer and origin there.

  Args:
    config: of the run.
    folder: of the run.
    tokenizer: of the run.
    origin: of `inputs.origin`. A folder without one (of an earlier version)
      takes this one, since there is nothing to compare it with.

  Raises:
    ValueError: the folder holds a run with other settings, apart from the
      number of steps and how often to log and to save, or one that learnt
      from another text or teacher.
  """
  check_settings(config, folder, _MAY_CHANGE)
  changed = _changed(folder / 'origin.json', origin)
  if changed:
    raise ValueError(
      f'{folder} holds a run whose {" and ".join(changed)} differ from '
      f'{origin}: text or teacher have changed under their names; put them '
      'back or choose another --workdir.'
    )
  folder.mkdir(parents=True, exist_ok=True)  # the tokenizer comes first
  beside = folder / 'tokenizer.json.part'
  tokenizer.save(str(beside))
  os.replace(beside, folder / 'tokenizer.json')
  write_json(folder / 'origin.json', origin)
  keep_settings(config, folder)


def read_history(folder: pathlib.Path, last_step: int) -> list[dict]:
  """Rows of history.json up to a step; those after it will come again."""
  path = folder / 'history.json'
  history = json.loads(path.read_text()) if path.exists() else []
  return [row for row in history if row['step'] <= last_step]


def checkpoints(folder: pathlib.Path) -> ocp.CheckpointManager:
  """The manager of the run's checkpoints; the last two are kept."""
  return ocp.CheckpointManager(
    (folder / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(max_to_keep=2),
  )


def restore(manager: ocp.CheckpointManager, state: Any) -> tuple[int, Any]:
  """(step, state) of the last checkpoint, or (0, `state`) without one."""
  step = manager.latest_step()
  if step is None:
    return 0, state
  return step, manager.restore(step, args=ocp.args.StandardRestore(state))


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
  """Saves the state after `step` steps, in the background."""
  manager.save(step, args=ocp.args.StandardSave(state))
