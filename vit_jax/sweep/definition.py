"""What a sweep consists of: tasks, a grid of settings, and how they are judged.

A config file says it in `get_sweep()`, or `get_sweep(arg)`, beside its
`get_config`; flags replace parts of it. The keys of the dict that it returns, all
optional:

  tasks   {name: {'search': {dotted key: value}, 'final': {...}, 'group': str}};
          default: one task, named after the file, that changes nothing.
  grid    {dotted key: values}; every combination is a point.
  select  the metric that chooses a task's point: 'val/accuracy' by default. The
          highest wins or the lowest, as its objective or evaluator says.
  report  the metric that is reported: 'test/accuracy' by default.
  seeds   how many runs the report is the median of: 1 by default.
  benchmark  whose published results are shown beside ours: '' by default, see
          `published`.

A task with 'final' settings has two stages: every point is trained once with the
'search' settings, and the winner once per seed with 'search' and 'final' settings
together. Without them every point is trained once per seed and reported as it is.
"""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import published

_KEYS = ('tasks', 'grid', 'select', 'report', 'seeds', 'benchmark')
_TASK_KEYS = ('search', 'final', 'group')


@dataclasses.dataclass(frozen=True)
class SweepTask:
  """Settings {dotted key: value} on top of the base, for both stages."""
  name: str
  group: str = ''
  search: dict[str, Any] = dataclasses.field(default_factory=dict)
  # None: no second stage.
  final: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class SweepDefinition:
  """A whole sweep; `asked` names the tasks that are to be run."""
  base: Config
  tasks: dict[str, SweepTask]
  asked: tuple[str, ...]
  grid: dict[str, tuple] = dataclasses.field(default_factory=dict)
  select: str = 'val/accuracy'
  report: str = 'test/accuracy'
  seeds: int = 1
  benchmark: str = ''
  # Every run in its debug form, see `vit_jax.training.debug_form`.
  debug: bool = False
  # The cells that `cells.make` has made: each takes milliseconds, there are hundreds,
  # and all are gone through again after every run. Not copied by `replace`.
  cell_cache: dict[tuple, Any] = dataclasses.field(
      default_factory=dict, init=False, compare=False, repr=False)

  def asked_tasks(self) -> list[SweepTask]:
    return [task for name, task in self.tasks.items() if name in self.asked]

  def points(self) -> list[dict[str, Any]]:
    """Every combination {dotted key: value}, the last key varying fastest."""
    return [dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())]


def from_dict(base: Config, values: Mapping[str, Any],
              default_task: str) -> SweepDefinition:
  """The definition of a dict as `get_sweep` returns it.

  Raises:
    UserError: for unknown keys and impossible values.
  """
  _check_keys(values, _KEYS, 'get_sweep()')
  tasks = {}
  for name, task in (values.get('tasks') or {default_task: {}}).items():
    _check_keys(task, _TASK_KEYS, f'Task {name!r} of get_sweep()')
    if not re.fullmatch(r'[\w.+-]+', name):
      raise UserError(f'Task {name!r} of get_sweep() names a folder; give it letters, '
                      'digits, _, ., + and - alone.')
    tasks[name] = SweepTask(
        name, task.get('group', ''), dict(task.get('search') or {}),
        dict(task['final']) if task.get('final') else None)
  grid = {key: grid_values(key, points, base)
          for key, points in (values.get('grid') or {}).items()}
  benchmark = values.get('benchmark', '')
  if benchmark and benchmark not in published.BENCHMARKS:
    raise UserError(f"'benchmark' of get_sweep() is {benchmark!r}; known are "
                    f'{", ".join(published.BENCHMARKS)}.')
  seeds = values.get('seeds', 1)
  if not isinstance(seeds, int) or seeds < 1:
    raise UserError(f"'seeds' of get_sweep() is {seeds!r}; give a number from 1.")
  return SweepDefinition(
      base, tasks, tuple(tasks), grid, values.get('select', 'val/accuracy'),
      values.get('report', 'test/accuracy'), seeds, benchmark)


def grid_values(key: str, values: Any, base: Config) -> tuple:
  """The values of a grid's key, converted to its type, each once.

  Raises:
    UserError: for an unknown key or values of the wrong type.
  """
  if key == 'seed':
    raise UserError('The grid names the key seed; use --seeds=N, or the "seeds" of '
                    'get_sweep().')
  if isinstance(values, (str, bytes)) or not hasattr(values, '__iter__'):
    raise UserError(f'The grid has {values!r} for {key}; expected a tuple of values.')
  converted = []
  for value in values:
    value = config_lib.get(config_lib.with_values(base, {key: value}), key)
    if value not in converted:
      converted.append(value)
  if not converted:
    raise UserError(f'The grid has no values for {key}; give at least one.')
  return tuple(converted)


def to_json(sweep: SweepDefinition) -> dict[str, Any]:
  """What `from_json` reads, as JSON can hold it."""
  return {
      'config': config_lib.to_dict(sweep.base),
      'tasks': {t.name: {'group': t.group, 'search': t.search, 'final': t.final}
                for t in sweep.tasks.values()},
      **{name: getattr(sweep, name)
         for name in ('asked', 'grid', 'select', 'report', 'seeds', 'benchmark',
                      'debug')}}


def from_json(values: Mapping[str, Any]) -> SweepDefinition:
  rest = dict(values)
  base = config_lib.from_dict(rest.pop('config'))
  asked, debug = tuple(rest.pop('asked')), rest.pop('debug')
  return dataclasses.replace(from_dict(base, rest, ''), asked=asked, debug=debug)


def merge(old: SweepDefinition, new: SweepDefinition,
          workdir: pathlib.Path) -> SweepDefinition:
  """`old`, which `workdir` holds, extended by the tasks, points and seeds of `new`.

  Raises:
    UserError: if they are not the same sweep, with all differences.
  """
  wrong = _differences(old, new)
  if wrong:
    raise UserError(
        f'--workdir={workdir} holds another sweep:\n' + '\n'.join(wrong) +
        '\nNothing was changed. Tasks, values of the grid and seeds may be added; for '
        'anything else give another --workdir.')
  tasks = {**old.tasks, **new.tasks}
  return dataclasses.replace(
      new, tasks=tasks,
      asked=tuple(n for n in tasks if n in old.asked or n in new.asked),
      grid={key: (*values, *(v for v in new.grid[key] if v not in values))
            for key, values in old.grid.items()},
      seeds=max(old.seeds, new.seeds), benchmark=new.benchmark or old.benchmark)


def _differences(old: SweepDefinition, new: SweepDefinition) -> list[str]:
  """A line for everything that makes them different sweeps."""
  lines = [f'  config.{key}: {a!r} there, {b!r} here' for key, a, b in
           config_lib.differences(old.base, new.base, sweep=True)]
  for name in ('select', 'report', 'debug'):
    a, b = getattr(old, name), getattr(new, name)
    lines += [f'  {name}: {a!r} there, {b!r} here'] if a != b else []
  if set(old.grid) != set(new.grid):
    lines.append(f'  keys of the grid: {", ".join(old.grid) or "none"} there, '
                 f'{", ".join(new.grid) or "none"} here')
  for name in old.tasks.keys() & new.tasks.keys():
    a, b = (_without_tuples(dataclasses.asdict(sweep.tasks[name]))
            for sweep in (old, new))
    lines += [f'  task {name}, its {part!r}: {a[part]!r} there, {b[part]!r} here'
              for part in a if a[part] != b[part]]
  return lines


def _without_tuples(value: Any) -> Any:
  # JSON knows none.
  if isinstance(value, dict):
    return {k: _without_tuples(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_without_tuples(v) for v in value]
  return value


def _check_keys(values: Iterable[str], known: tuple[str, ...], where: str) -> None:
  for key in values:
    if key not in known:
      raise UserError(f'{where} has a key {key!r}; expected one of '
                      f'{", ".join(known)}.')
