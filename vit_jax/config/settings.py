"""How a setting is declared: once, with everything that is known of it.

`sections` declares all settings with `setting` and `section`. Checks, the keys that a
resumed run must share, the part of a configuration that compiled programs depend on,
what tuning may change and the text of `vit_jax config --explain` all follow from there.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any

from vit_jax.runtime.errors import UserError, check_choice


@dataclasses.dataclass(frozen=True)
class Rule:
  """Which values are possible; `expected` completes 'config.key is 3; it ...'."""
  allows: Callable[[Any], bool]
  expected: str


@dataclasses.dataclass(frozen=True)
class Setting:
  """All that is known of one setting or, for its settings to inherit, of a section.

  Attributes:
    help: what it means, in one or a few sentences.
    choices: the only values that it takes; (): any of its type.
    rule: which values are possible.
    size: whether it is a (height, width), for which one number means a square.
    read_by: the values of its section's `name` that read it; (): all.
    resume: whether it must be the same where a run is resumed.
    sweep: whether it must be the same where a sweep goes on.
    per_process: whether the processes of a run may have different values: it changes
      neither what is computed nor when they meet.
    compiled: whether compiled programs depend on it or, as a function of its value,
      what of it they depend on.
    tuning: 'tunable' for what a tuned file may set, 'made_for' for what must be the
      same where such a file is used, '' for neither.
    from_variant: whether 0 or () means that the model's variant settles it.
    models: the kinds of models that have the option.
    effect: of an option of a model: 'outputs' if it changes what is computed from the
      same parameters, 'parameters' if it shows in their names or shapes, 'none' if it
      says how a model is named, stored, run or trained.
    of_data_set: in an evaluator, whether it replaces the same setting of `data`.
  """
  help: str
  choices: tuple = ()
  rule: Rule | None = None
  size: bool = False
  read_by: tuple[str, ...] = ()
  resume: bool = True
  sweep: bool = True
  per_process: bool = False
  compiled: bool | Callable[[Any], Any] = True
  tuning: str = ''
  from_variant: bool = False
  models: tuple[str, ...] = ('ViT',)
  effect: str = 'outputs'
  of_data_set: bool = False


# What a setting has from its section unless it says otherwise.
_INHERITED = ('resume', 'sweep', 'compiled')
_NUMBER = (int, float)


def setting(default: Any, help: str, **known: Any) -> Any:
  """A field of a section; `known` are attributes of `Setting`."""
  return dataclasses.field(default=default, metadata={'help': help, **known})


def section(default: Any, help: str, **known: Any) -> Any:
  """A field that is a section, or a tuple of sections.

  Args:
    default: an instance of the section.
    help: what it is about.
    **known: what its settings have unless they say otherwise: `resume`, `sweep`,
      `compiled`.
  """
  return dataclasses.field(default=default, metadata={'help': help, **known})


def at_least(least: float) -> Rule:
  return Rule(lambda value: value >= least, f'must be at least {least}')


def above(bound: float) -> Rule:
  return Rule(lambda value: value > bound, f'must be above {bound}')


def probability(*, one: bool = True) -> Rule:
  """From 0 to 1, with or without 1 itself."""
  if one:
    return Rule(lambda value: 0 <= value <= 1, 'must be in [0, 1], a probability')
  return Rule(lambda value: 0 <= value < 1, 'must be in [0, 1)')


def numbers(*, whole: bool = False, empty: bool = True) -> Rule:
  """A tuple of positive numbers."""
  kind = int if whole else _NUMBER
  def allows(values: tuple) -> bool:
    return (empty or bool(values)) and all(
        isinstance(v, kind) and not isinstance(v, bool) and v > 0 for v in values)
  what = 'whole numbers' if whole else 'numbers'
  return Rule(allows, f'takes {what} above 0' + (
      '' if empty else ', at least one, such as (1, 5)'))


def span(most: float | None = None) -> Rule:
  """(smallest, largest), both positive and at most `most`."""
  def allows(value: tuple) -> bool:
    return len(value) == 2 and all(map(is_number, value)) and (
        0 < value[0] <= value[1] and (most is None or value[1] <= most))
  return Rule(allows, 'takes (smallest, largest), both above 0' + (
      '' if most is None else f' and at most {most}'))


def is_number(value: Any) -> bool:
  return isinstance(value, _NUMBER) and not isinstance(value, bool)


@functools.cache
def declared(cls: type) -> dict[str, Setting]:
  """{name: declaration} of a section's own fields, in order."""
  return {field.name: Setting(**field.metadata) for field in dataclasses.fields(cls)}


@functools.cache
def all_settings(cls: type) -> dict[str, Setting]:
  """{dotted key: declaration} of a section and the sections inside of it.

  A tuple of sections, as `evaluators`, is one setting here.
  """
  return dict(_walk(cls, '', {}))


def _walk(cls: type, prefix: str, inherited: dict[str, Any]
          ) -> Iterator[tuple[str, Setting]]:
  for field in dataclasses.fields(cls):
    known = inherited | field.metadata
    if dataclasses.is_dataclass(field.type):
      passed_on = {name: known[name] for name in _INHERITED if name in known}
      yield from _walk(
          typing.cast(type, field.type), f'{prefix}{field.name}.', passed_on)
    else:
      yield prefix + field.name, Setting(**known)


def item_section(kind: Any) -> type | None:
  """The section that a field of this type is a tuple of; None for all other fields."""
  arguments = typing.get_args(kind)
  if arguments and dataclasses.is_dataclass(arguments[0]):
    return typing.cast(type, arguments[0])
  return None


def check_values(config: Any, prefix: str = '') -> None:
  """Checks every value of a section against its declaration.

  Args:
    config: an instance of a section.
    prefix: of the keys in messages, such as 'optimizer.'.

  Raises:
    UserError: for the first value that is impossible, or that nothing reads.
  """
  for field in dataclasses.fields(config):
    key, value = prefix + field.name, getattr(config, field.name)
    if dataclasses.is_dataclass(field.type):
      check_values(value, f'{key}.')
    elif item_section(field.type):
      for i, item in enumerate(value):
        check_values(item, f'{key}[{i}].')
    else:
      check_value(declared(type(config))[field.name], key, value)
  _check_read(config, prefix)


def check_value(known: Setting, key: str, value: Any) -> None:
  """Raises UserError if a value of the setting at `key` is impossible."""
  if known.choices:
    check_choice(key, value, known.choices)
  if known.rule and not known.rule.allows(value):
    raise UserError(f'config.{key} is {value!r}; it {known.rule.expected}.')


def reads(cls: type, name: str) -> tuple[str, ...]:
  """The settings of a section that its choice `name` reads."""
  return tuple(key for key, known in declared(cls).items()
               if not known.read_by or name in known.read_by)


def _check_read(config: Any, prefix: str) -> None:
  """Raises UserError for a setting that the chosen `name` does not read."""
  for field in dataclasses.fields(config):
    known = declared(type(config))[field.name]
    if not known.read_by or config.name in known.read_by:
      continue
    value = getattr(config, field.name)
    if value != field.default:
      others = [key for key in reads(type(config), config.name) if key != 'name']
      raise UserError(
          f'config.{prefix}{field.name} is {value!r}, but '
          f'config.{prefix}name={config.name!r} does not read it: it reads '
          f'{", ".join(others)}. Remove the setting, or choose one of '
          f'{", ".join(known.read_by)}.')


def complete_size(key: str, size: tuple) -> tuple:
  """(height, width) of a setting with `size`; one number means a square, () stays.

  Raises:
    UserError: for anything else.
  """
  whole = size * 2 if len(size) == 1 else size
  if len(whole) not in (0, 2) or any(not isinstance(s, int) or s < 1 for s in whole):
    raise UserError(f'config.{key} is {size!r}; it takes (height, width).')
  return tuple(whole)
