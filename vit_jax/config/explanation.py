"""The text of `vit_jax config --explain KEY`."""

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from vit_jax.config.sections import Config
from vit_jax.config.settings import Setting, all_settings, declared, item_section
from vit_jax.runtime.errors import UserError

_WIDTH = 88


def explain(key: str) -> str:
  """What is known of a setting, or of all settings of a section.

  Args:
    key: a dotted key such as 'optimizer.b2', with or without 'config.' before it; a
      section such as 'data.train'; '' for everything.

  Raises:
    UserError: for a key that does not exist.
  """
  key = re.sub(r'\[\d*\]', '[]', key.lstrip('-').removeprefix('config.')).strip('.')
  rows = dict(_rows())
  plain = key.replace('[]', '')
  found = {name: row for name, row in rows.items()
           if f'{name.replace("[]", "")}.'.startswith(f'{plain}.' if plain else '')}
  if not found:
    sections = {name.rpartition('.')[0] for name in rows} - {''}
    near = difflib.get_close_matches(key, [*rows, *sections], n=1, cutoff=0.5)
    hint = f' Did you mean {near[0]}?' if near else ''
    raise UserError(
        f'Unknown config key config.{key}.{hint} `vit_jax config --explain` without a '
        'key explains all of them.')
  return '\n'.join(_text(name, *row) for name, row in found.items())


def _rows() -> Iterator[tuple[str, tuple[Setting, Any, Any]]]:
  """(key, (declaration, type, default)) of all settings, those in tuples included."""
  for key, known in all_settings(Config).items():
    section, name = _holder(key)
    field = section.__dataclass_fields__[name]
    item = item_section(field.type)
    yield key, (known, field.type, field.default)
    for inner in dataclasses.fields(item) if item else ():
      yield f'{key}[].{inner.name}', (
          dataclasses.replace(
              declared(item)[inner.name], resume=known.resume, sweep=known.sweep,
              compiled=known.compiled), inner.type, inner.default)


def _holder(key: str) -> tuple[Any, str]:
  """(the section class that has the setting, its name there)."""
  section: Any = Config
  *parents, name = key.split('.')
  for parent in parents:
    section = section.__dataclass_fields__[parent].type
  return section, name


def _text(key: str, known: Setting, kind: Any, default: Any) -> str:
  kind = getattr(kind, '__name__', 'tuple')
  lines = [f'config.{key}: {kind} = {default!r}', *textwrap.wrap(
      known.help, _WIDTH, initial_indent='    ', subsequent_indent='    ')]
  facts = []
  if known.choices and not all(repr(choice) in known.help for choice in known.choices):
    facts.append(f'One of {", ".join(map(repr, known.choices))}.')
  if known.rule:
    facts.append(f'It {known.rule.expected}.')
  if known.size:
    facts.append('It takes (height, width); one number means a square.')
  if known.read_by:
    facts.append(f'Read by name {", ".join(map(repr, known.read_by))}.')
  facts.append('A resumed run must have the same.' if known.resume
               else 'May change when a run is resumed.')
  if known.sweep and not known.resume:
    facts.append('A sweep that goes on must have the same.')
  if known.compiled is not False:
    facts.append('Compiled programs depend on it.')
  if known.tuning == 'tunable':
    facts.append('`vit_jax plan --tune` may set it.')
  if known.tuning == 'made_for':
    facts.append('A tuned file is for one value of it.')
  lines += textwrap.wrap(
      ' '.join(facts), _WIDTH, initial_indent='    ', subsequent_indent='    ')
  return '\n'.join(lines)
