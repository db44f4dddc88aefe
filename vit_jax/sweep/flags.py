"""Tasks, grids and shards as they are given on the command line."""

import ast
import difflib

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError


def parse_grid(word: str, base: Config) -> dict:
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
  return {key: check_values(key, values, base)}


def _literal(text):
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def check_values(key: str, values, base: Config) -> tuple:
  """The values of a grid's key, converted to its type, each once."""
  if key == 'seed':
    raise UserError('The grid names the key seed; use --seeds=N, or the "seeds" of '
                    'get_sweep().')
  if isinstance(values, (str, bytes)) or not hasattr(values, '__iter__'):
    raise UserError(f'The grid has {values!r} for {key}; expected a tuple of values.')
  checked = []
  for value in values:
    value = config_lib.get(config_lib.with_values(base, {key: value}), key)
    if value not in checked:
      checked.append(value)
  if not checked:
    raise UserError(f'The grid has no values for {key}; give at least one.')
  return tuple(checked)


def select_tasks(text: str, tasks: dict) -> tuple:
  """Names of the tasks that 'task,group,...' selects, in the order of `tasks`."""
  if not text:
    return tuple(tasks)
  groups = {}
  for task in tasks.values():
    if task.group:
      groups.setdefault(task.group.lower(), []).append(task.name)
  chosen = set()
  for word in filter(None, (part.strip() for part in text.split(','))):
    chosen.update(_named(word, tasks, groups))
  if not chosen:
    raise UserError(f'--tasks={text!r} names no task. Tasks: {", ".join(tasks)}.')
  return tuple(name for name in tasks if name in chosen)


def _named(word, tasks, groups):
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
  """(i, n) of 'i/n', the share of worker i of n, counted from 0."""
  if not text:
    return 0, 1
  index, _, count = text.partition('/')
  if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
    raise UserError(
        f'--shard={text} is no share. Expected i/n with i from 0 to n - 1, such as '
        '--shard=0/4 to --shard=3/4 for four workers.')
  return int(index), int(count)


def overridden_keys(overrides) -> list:
  """Dotted keys of words such as '--config.optimizer.learning_rate=0.1'."""
  return [word.lstrip('-').split('=', 1)[0].split('.', 1)[1].split('[')[0]
          for word in overrides if word.startswith(('--config.', '-config.'))]
