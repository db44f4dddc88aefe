"""Words for a POSIX shell. Every value that reaches a shell goes through here."""

import re
import shlex
import shutil
from collections.abc import Iterable, Sequence

from vit_jax.runtime.errors import UserError

# (name, value) pairs of environment variables.
Environment = Sequence[tuple[str, str]]

_VARIABLE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')


def quote(word: object) -> str:
  """One word of a shell's command line that means exactly `word`.

  Raises:
    UserError: for a NUL, which no command line can hold.
  """
  if '\0' in str(word):
    raise UserError(f'{word!r} holds a NUL byte, which no command can be given.')
  return shlex.quote(str(word))


def join(words: Iterable[object]) -> str:
  """The command line of `words`."""
  return ' '.join(quote(word) for word in words)


def assignments(environment: Environment) -> list[str]:
  """NAME=value words, for `env`, `export` or before a command.

  Raises:
    UserError: for a name that no shell takes.
  """
  for name, _ in environment:
    if not _VARIABLE.fullmatch(name):
      raise UserError(
          f'{name!r} is no name of an environment variable; expected letters, digits '
          'and underscores, as in --env=TFDS_DATA_DIR=/data.')
  return [f'{name}={quote(value)}' for name, value in environment]


def with_environment(environment: Environment, words: Iterable[object]) -> str:
  """`words` run with some variables set."""
  return ' '.join([*assignments(environment), join(words)])


def exports(environment: Environment) -> str:
  """One `export` line, or '' for no variable."""
  words = assignments(environment)
  return f'export {" ".join(words)}' if words else ''


def check_program(program: str, hint: str) -> None:
  """Raises UserError unless there is such a program."""
  if shutil.which(program) is None:
    raise UserError(f'There is no {program} on this machine: {hint}.')
