"""Configurations as values: from and to plain dicts, by dotted keys, compared."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import ml_collections

from vit_jax.config.sections import Config
from vit_jax.config.settings import Setting, all_settings, item_section
from vit_jax.runtime.errors import UserError

_Section = TypeVar('_Section')


def from_dict(values: Mapping[str, Any]) -> Config:
  """A `Config` from a nested dict that may leave out defaults."""
  known = all_settings(Config)
  for key, _ in flatten(values):
    check_key(key, known)
  return _build(Config, values, '')


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
  """`config` with {dotted key: value} applied; raises UserError for unknown keys."""
  nested: dict[str, Any] = {}
  for key, value in values.items():
    *sections, last = key.split('.')
    place = nested
    for name in sections:
      place = place.setdefault(name, {})
    place[last] = value
  # Only for its checks and conversions: keys that are not given are defaults there.
  checked = from_dict(nested)
  for key, _ in flatten(nested):
    config = replace(config, key, get(checked, key))
  return config


def to_dict(config: Any) -> dict[str, Any]:
  """Nested plain dict of every key, defaults included; JSON can hold it."""
  return dataclasses.asdict(config)


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(to_dict(config))


def get(config: Any, key: str) -> Any:
  """The value at a dotted key."""
  for name in key.split('.'):
    config = getattr(config, name)
  return config


def replace(config: _Section, key: str, value: Any) -> _Section:
  """`config` with the value at a dotted key replaced."""
  name, _, rest = key.partition('.')
  if rest:
    value = replace(getattr(config, name), rest, value)
  return dataclasses.replace(typing.cast(Any, config), **{name: value})


def differences(old: Config, new: Config, *, sweep: bool = False
                ) -> list[tuple[str, Any, Any]]:
  """(key, old value, new value) of all settings that must be the same and are not.

  Args:
    old: of what is there.
    new: of what is to go on with it.
    sweep: where a sweep goes on rather than a run.
  """
  def fixed(known: Setting) -> bool:
    return known.sweep if sweep else known.resume
  before, after = dict(flatten(to_dict(old))), dict(flatten(to_dict(new)))
  return [(key, before[key], after[key]) for key, known in all_settings(Config).items()
          if fixed(known) and before[key] != after[key]]


def compiled(config: Config) -> Config:
  """`config` reduced to what compiled programs depend on: equal means the same ones."""
  default = Config()
  for key, known in all_settings(Config).items():
    if known.compiled is False:
      config = replace(config, key, get(default, key))
    elif callable(known.compiled):
      config = replace(config, key, known.compiled(get(config, key)))
  return config


def flatten(values: Mapping[str, Any], prefix: str = ''
            ) -> Iterator[tuple[str, Any]]:
  """(dotted key, value) of nested dicts."""
  for key, value in values.items():
    if isinstance(value, dict):
      yield from flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def flatten_items(flat: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """('evaluators[0].name', value), ...: the sections that are items of tuples."""
  for key, value in flat.items():
    if isinstance(value, tuple):
      for i, item in enumerate(value):
        if isinstance(item, dict):
          yield from flatten(item, f'{key}[{i}].')


def check_key(key: str, known: Collection[str]) -> None:
  """Raises UserError for a key that is not known, with the nearest that is."""
  if key in known:
    return
  near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
  # 'data.imagesize' is nearest by its last word when the prefix is wrong too.
  if not near:
    last = {k.rsplit('.', 1)[-1]: k for k in known}
    near = [last[n] for n in difflib.get_close_matches(
        key.rsplit('.', 1)[-1], last, n=1)]
  hint = f' Did you mean config.{near[0]}?' if near else ''
  raise UserError(
      f'Unknown config key config.{key}.{hint} '
      '`vit_jax config --config=FILE` prints all of them.')


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
  fields: dict[str, Any] = {}
  for field in dataclasses.fields(cls):
    if field.name not in values:
      continue
    name = prefix + field.name
    value = values[field.name]
    if dataclasses.is_dataclass(field.type):
      if not isinstance(value, dict):
        raise UserError(f'config.{name} is a section, not a value: got {value!r}.')
      fields[field.name] = _build(typing.cast(type, field.type), value, name + '.')
    elif item := item_section(field.type):
      fields[field.name] = _build_items(item, value, name)
    else:
      fields[field.name] = _coerce(value, field.type, name)
  return cls(**fields)


def _build_items(cls: type, values: Any, name: str) -> tuple:
  """A tuple of sections; each may leave out defaults."""
  if not isinstance(values, list | tuple):
    raise UserError(f'config.{name} takes a tuple of sections, got {values!r}.')
  items = []
  for i, value in enumerate(values):
    prefix = f'{name}[{i}].'
    if not isinstance(value, Mapping):
      raise UserError(f'config.{name}[{i}] takes a dict, got {value!r}.')
    known = [prefix + field.name for field in dataclasses.fields(cls)]
    for key in value:
      check_key(prefix + key, known)
    items.append(_build(cls, value, prefix))
  return tuple(items)


def _coerce(value: Any, kind: Any, name: str) -> Any:
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    try:
      return float(value)
    except OverflowError as e:
      raise UserError(f'config.{name} takes a number, got {value!r:.60}...: it is too '
                      'large for one.') from e
  if kind is int and isinstance(value, float) and value.is_integer():
    return int(value)
  if kind is tuple and isinstance(value, list):
    return _deep_tuple(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise UserError(
        f'config.{name} takes a value of type {kind.__name__}, got {value!r}.')
  return value


def _deep_tuple(value: Iterable) -> tuple:
  return tuple(_deep_tuple(v) if isinstance(v, list) else v for v in value)
