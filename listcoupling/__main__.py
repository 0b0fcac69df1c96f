"""The console command: `listcoupling generate --prompt 'def main('`.

Its words are the scripts of a checkout, which travel with the wheel; each
takes the flags that its file takes.
"""

import listcoupling.early_exits  # noqa: F401

import difflib
import sys

from listcoupling import command

_ALIASES = {'evaluate': 'evaluate-decoding'}


def _usage(scripts) -> str:
  """A line per word, with the first words of its script."""
  about = {
    word: path.read_text('utf-8').split('"""')[1].splitlines()[0]
    for word, path in scripts.items()
  }
  about |= {short: f'Short for {word}.' for short, word in _ALIASES.items()}
  lines = [
    f'  {word:<20} {line.partition(", see ")[0].rstrip(".")}'
    for word, line in sorted(about.items())
  ]
  head = 'usage: listcoupling WORD [--flags]; WORD --help lists its flags.\n'
  return '\n'.join([head, *lines, ''])


def main() -> None:
  """Runs the script that the first argument names."""
  scripts = {
    path.stem.replace('_', '-'): path
    for path in sorted((command.root() / 'scripts').glob('[a-z]*.py'))
  }
  word = sys.argv[1] if len(sys.argv) > 1 else '--help'
  name = _ALIASES.get(word, word).replace('_', '-')
  if name in scripts:
    del sys.argv[1]
    command.run_script(scripts[name], f'listcoupling {word}')
  elif word in ('--help', '-h', 'help'):
    command.finish(0, _usage(scripts))
  else:
    near = difflib.get_close_matches(name, [*scripts, *_ALIASES], 1)
    guess = f'did you mean {near[0]}? ' if near else ''
    sys.stderr.write(
      f'listcoupling: there is no {word!r}; {guess}listcoupling --help lists '
      'the words.\n'
    )
    sys.exit(2)


if __name__ == '__main__':
  main()
