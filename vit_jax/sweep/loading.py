"""From a config file and the words of a command line to a sweep's definition."""

import ast
import dataclasses
import difflib
import inspect
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import definition
from vit_jax.sweep.definition import SweepDefinition, SweepTask
from vit_jax.training.checks import check_measurements

# Whose checkpoints may stay: of the runs that are reported, of all, of none.
KEEP_CHECKPOINTS = ('final', 'all', 'none')


def load(spec: str, overrides: Sequence[str] = (), tasks: str = '',
         grid: Sequence[str] = (), seeds: int = 0,
         debug: bool = False) -> SweepDefinition:
  """The definition in a config file, with the command line's changes.

  Args:
    spec: `path/to/file.py` or `path/to/file.py:arg`.
    overrides: words such as `--config.batch_size=64`, for the base.
    tasks: names of tasks or groups, separated by commas; '': all.
    grid: words such as 'optimizer.learning_rate=0.01,0.03', each replacing a key.
    seeds: replaces the file's number; 0 keeps it.
    debug: whether every run is to take its debug form.

  Raises:
    UserError: for unknown names and keys, and for settings that nothing would read.
  """
  base = check_measurements(config_lib.load(spec, overrides))
  values = _read_file(spec)
  if values is None and not grid and not seeds:
    raise UserError(
        f'{spec} defines no get_sweep(), so there is nothing to sweep. Give a grid, '
        "such as --grid 'optimizer.learning_rate=0.001,0.003', or several --seeds.")
  stem = pathlib.Path(spec.partition(':')[0]).stem
  sweep = definition.from_dict(base, values or {}, re.sub(r'[^\w.+-]', '_', stem))
  changed = dict(sweep.grid)
  for word in grid:
    changed.update(parse_grid(word, base))
  sweep = dataclasses.replace(
      sweep, grid=changed, seeds=seeds or sweep.seeds, debug=debug,
      asked=select_tasks(tasks, sweep.tasks))
  _check_overrides(sweep, _overridden_keys(overrides))
  return sweep


def parse_grid(word: str, base: Config) -> dict[str, tuple]:
  """{'optimizer.learning_rate': (0.01, 0.03)} of 'optimizer.learning_rate=0.01,0.03'.

  Values are Python literals, or plain words. Raises UserError for an unknown key or a
  value of the wrong type.
  """
  key, equals, text = word.partition('=')
  key = key.strip().removeprefix('config.')
  if not equals or not text.strip():
    raise UserError(f'--grid {word!r} names no values. Expected KEY=VALUE,VALUE,... '
                    "such as --grid 'optimizer.learning_rate=0.01,0.03'.")
  try:
    values = ast.literal_eval(f'[{text}]')
  except (SyntaxError, ValueError):
    values = [_literal(part.strip()) for part in text.split(',')]
  words = {'true': True, 'false': False}
  values = [words.get(v.lower(), v) if isinstance(v, str) else v for v in values]
  return {key: definition.grid_values(key, values, base)}


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def select_tasks(text: str, tasks: Mapping[str, SweepTask]) -> tuple[str, ...]:
  """Names of the tasks that 'task,group,...' selects, in the order of `tasks`.

  Raises:
    UserError: for a word that means no task, or several that are no group.
  """
  if not text:
    return tuple(tasks)
  groups: dict[str, list[str]] = {}
  for task in tasks.values():
    if task.group:
      groups.setdefault(task.group.lower(), []).append(task.name)
  chosen = set()
  for word in filter(None, (part.strip() for part in text.split(','))):
    chosen.update(_tasks_of_word(word, tasks, groups))
  if not chosen:
    raise UserError(f'--tasks={text!r} names no task. Tasks: {", ".join(tasks)}.')
  return tuple(name for name in tasks if name in chosen)


def _tasks_of_word(word: str, tasks: Mapping[str, SweepTask],
                   groups: Mapping[str, list[str]]) -> list[str]:
  """Names of the tasks that a word means: a name, a part of just one, or a group."""
  if word in tasks:
    return [word]
  if word.lower() in groups:
    return groups[word.lower()]
  if word == 'all':
    return list(tasks)
  parts = [name for name in tasks if word.lower() in name.lower()]
  if len(parts) == 1:
    return parts
  near = parts or difflib.get_close_matches(
      word.lower(), [*tasks, *groups], n=3, cutoff=0.5)
  hint = f' Did you mean {" or ".join(near)}?' if near else ''
  named = f' Groups: {", ".join(groups)}.' if groups else ''
  raise UserError(f'--tasks names {word!r}, which is no task or group of this '
                  f'sweep.{hint} Tasks: {", ".join(tasks)}.{named}')


def parse_shard(text: str) -> tuple[int, int]:
  """(i, n) of 'i/n', the share of worker i of n, counted from 0.

  Raises:
    UserError: for anything else.
  """
  if not text:
    return 0, 1
  index, _, count = text.partition('/')
  if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
    raise UserError(
        f'--shard={text} is no share. Expected i/n with i from 0 to n - 1, such as '
        '--shard=0/4 to --shard=3/4 for four workers.')
  return int(index), int(count)


def check_keep_checkpoints(word: str) -> None:
  """Raises UserError unless it is one of `KEEP_CHECKPOINTS`."""
  if word not in KEEP_CHECKPOINTS:
    raise UserError(f'--keep_checkpoints={word}; choose one of '
                    f'{", ".join(KEEP_CHECKPOINTS)}.')


def _read_file(spec: str) -> dict[str, Any] | None:
  """What `get_sweep` of the config file returns; None if there is no such function."""
  module, path, arg = config_lib.read_module(spec)
  get_sweep = getattr(module, 'get_sweep', None)
  if get_sweep is None:
    return None
  takes_arg = bool(inspect.signature(get_sweep).parameters)
  values = get_sweep(arg) if arg and takes_arg else get_sweep()
  if not isinstance(values, dict):
    raise UserError(f'get_sweep() of {path} returned {values!r}; expected a dict.')
  return values


def _overridden_keys(overrides: Iterable[str]) -> list[str]:
  """Dotted keys of words such as '--config.optimizer.learning_rate=0.1'."""
  return [word.lstrip('-').split('=', 1)[0].split('.', 1)[1].split('[')[0]
          for word in overrides if word.startswith(('--config.', '-config.'))]


def _check_overrides(sweep: SweepDefinition, keys: Iterable[str]) -> None:
  # Cells would silently replace what was asked for.
  for key in keys:
    if key in sweep.grid:
      raise UserError(
          f'--config.{key} is given, but the grid sets this key. Give '
          f"--grid '{key}=VALUE' for a grid with this value alone.")
    if key == 'seed':
      continue
    for task in sweep.asked_tasks():
      if key in task.search or key in (task.final or {}):
        raise UserError(
            f'--config.{key} is given, but the task {task.name} sets this key '
            'itself. Change it in get_sweep() of the config file.')
