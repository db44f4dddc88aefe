"""The one exception for mistakes that a user can mend, and how trouble is told."""

import difflib
import sys
from collections.abc import Collection


class UserError(Exception):
  """Bad input: the message says what was given, what was expected, what to do.

  The command line prints the message alone, without a traceback, and exits
  with `exit_status`. Everything else that is raised is a defect of ours.
  """
  exit_status = 1


class DataError(UserError):
  """A record or image that cannot be read; names data set, split and record."""


def check_choice(key: str, value: object, valid: Collection[str]) -> None:
  """Raises UserError unless the setting `config.<key>` is one of `valid`."""
  if value in valid:
    return
  near = difflib.get_close_matches(str(value), valid, n=1)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  raise UserError(
      f'config.{key} is {value!r}; choose one of {", ".join(valid)}.{hint}')


def first_line(error: BaseException) -> str:
  """The first line of an error's message, or its class where there is none."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0]


def warn(text: str) -> None:
  """Tells, at once, of something that the run survives."""
  print(f'vit_jax: warning: {text}', file=sys.stderr, flush=True)
