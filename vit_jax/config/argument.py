"""The argument of a config file, `file.py:word,word`, as words in any order."""

import difflib
from types import SimpleNamespace

from vit_jax.runtime.errors import UserError


def parse(arg: str, **choices: tuple) -> SimpleNamespace:
  """Which of its choices every name has; the first where no word of `arg` is one.

  Args:
    arg: such as 'cifar100,L/16'; '' for the first choice everywhere.
    **choices: name -> the words that it may be, different from all others.

  Raises:
    UserError: for a word that is no choice, or a second one for the same name.
  """
  found = {}
  for word in filter(None, (part.strip() for part in arg.split(','))):
    name = next((n for n, words in choices.items() if word in words), None)
    if name is None:
      raise UserError(_unknown(word, choices))
    if name in found:
      raise UserError(f"The config's argument {arg!r} names two of "
                      f'{", ".join(choices[name])}; give one.')
    found[name] = word
  return SimpleNamespace(**{name: found.get(name, words[0])
                            for name, words in choices.items()})


def _unknown(word: str, choices: dict[str, tuple]) -> str:
  known = [w for words in choices.values() for w in words]
  lower = {w.lower(): w for w in known}
  near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
  hint = f' Did you mean {lower[near[0]]!r}?' if near else ''
  rows = '; '.join(f'{name}: {", ".join(words)}' for name, words in choices.items())
  return (f"The config's argument has a word {word!r} that it does not know.{hint} It "
          f'takes, separated by commas, {rows}.')
