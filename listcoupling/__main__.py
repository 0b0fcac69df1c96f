"""The console command: `listcoupling generate --prompt 'def main('`.

Its words are the scripts of a checkout, which travel with the wheel; each
takes the flags that its file takes.
"""

import listcoupling.early_interrupts  # noqa: F401

import runpy
import sys

from listcoupling import command

_ALIASES = {'evaluate': 'evaluate_decoding'}
_EXTRAS = {
  'PIL': 'images',
  'jinja2': 'chat',
  'torch': 'baselines',
  'transformers': 'baselines',
}


def main() -> None:
  """Runs the script that the first argument names."""
  scripts = {
    path.stem.replace('_', '-'): path
    for path in sorted((command.root() / 'scripts').glob('[a-z]*.py'))
  }
  word = sys.argv[1] if len(sys.argv) > 1 else '--help'
  name = _ALIASES.get(word, word).replace('_', '-')
  if name not in scripts:
    asked = word in ('--help', '-h', 'help')
    print(
      ('' if asked else f'listcoupling: there is no {word!r}.\n')
      + f'usage: listcoupling {"|".join(scripts)} [--flags]; '
      'listcoupling WORD --help lists the flags.',
      file=sys.stdout if asked else sys.stderr,
    )
    sys.exit(0 if asked else 2)
  sys.argv = [f'listcoupling {word}', *sys.argv[2:]]
  try:
    runpy.run_path(str(scripts[name]), run_name='__main__')
  except ModuleNotFoundError as error:
    missing = (error.name or '').split('.')[0]
    extra = _EXTRAS.get(missing, 'experiments')
    remedy = f"pip install 'listcoupling[{extra}]'"
    sys.exit(f'listcoupling {word}: needs {missing}: {remedy}')


if __name__ == '__main__':
  main()
