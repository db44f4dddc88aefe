"""Settings that name code: a row of a table of ours, or something of the user's own."""

import importlib
from collections.abc import Mapping
from typing import Any

from vit_jax.runtime.errors import UserError, check_choice


def find(key: str, name: str, table: Mapping[str, Any]) -> Any:
  """What `config.<key>` names: a row of `table`, or 'package.module:name'.

  A row that is itself a text 'package.module:name' is imported, so that a table
  costs nothing before one of its rows is used.

  Raises:
    UserError: if it is no row and cannot be imported.
  """
  if ':' not in name:
    check_choice(key, name, table)
    row = table[name]
    return _import(row) if isinstance(row, str) else row
  try:
    return _import(name)
  except (ImportError, AttributeError, ValueError, TypeError) as e:
    raise UserError(
        f'config.{key}={name!r} cannot be imported ({e}). Expected '
        f'package.module:name, or one of {", ".join(table)}. Is the folder of that '
        'package in PYTHONPATH?') from e


def check_members(key: str, name: str, found: Any, protocol: type) -> None:
  """Raises UserError unless `found` is a class with all members of a protocol."""
  members = dict.fromkeys((*protocol.__annotations__, *vars(protocol)))
  missing = [member for member in members
             if not member.startswith('_') and not hasattr(found, member)]
  if isinstance(found, type) and not missing:
    return
  lacks = f', which lacks {", ".join(missing)}' if missing else ''
  raise UserError(
      f'config.{key}={name!r} is {found!r}{lacks}; expected a class with all that '
      f'{protocol.__module__}.{protocol.__name__} describes.')


def _import(path: str) -> Any:
  module, _, name = path.partition(':')
  return getattr(importlib.import_module(module), name)
