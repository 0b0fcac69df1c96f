"""The console command: `listcoupling generate --prompt 'def main('`.

Its words are the scripts of a checkout, which travel with the wheel; each
takes the flags that its file takes.
"""

import listcoupling.early_interrupts  # noqa: F401

import sys

from listcoupling import command

_ALIASES = {'evaluate': 'evaluate_decoding'}


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
    usage = (
      f'usage: listcoupling {"|".join(scripts)} [--flags]; '
      'listcoupling WORD --help lists the flags.\n'
    )
    if asked:
      command.finish(0, usage)
    sys.stderr.write(f'listcoupling: there is no {word!r}.\n{usage}')
    sys.exit(2)
  del sys.argv[1]
  command.run_script(scripts[name], f'listcoupling {word}')


if __name__ == '__main__':
  main()
