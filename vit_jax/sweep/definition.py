"""What a sweep consists of: tasks, a grid of settings, and how they are judged.

A config file says it in `get_sweep()`, or `get_sweep(arg)`, beside its
`get_config`; flags replace parts of it. The keys of the dict that it returns, all
optional:

  tasks   {name: {'search': {dotted key: value}, 'final': {...}, 'group': str}};
          default: one task, named after the file, that changes nothing.
  grid    {dotted key: values}; every combination is a point.
  select  the metric that chooses a task's point: 'val/accuracy' by default. The
          highest wins, of a '.../loss' the lowest.
  report  the metric that is reported: 'test/accuracy' by default.
  seeds   how many runs the report is the median of: 1 by default.
  benchmark  whose published results are shown beside ours: '' by default, see
          `published`.

A task with 'final' settings has two stages: every point is trained once with the
'search' settings, and the winner once per seed with 'search' and 'final' settings
together. Without them every point is trained once per seed and reported as it is.
"""

import dataclasses
import inspect
import itertools
import pathlib
import re

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import flags, published
from vit_jax.training.checks import check_measurements

_KEYS = ('tasks', 'grid', 'select', 'report', 'seeds', 'benchmark')
_TASK_KEYS = ('search', 'final', 'group')

@dataclasses.dataclass(frozen=True)
class Task:
  """Settings {dotted key: value} on top of the base, for both stages."""
  name: str
  group: str = ''
  search: dict = dataclasses.field(default_factory=dict)
  # None: no second stage.
  final: dict | None = None


@dataclasses.dataclass(frozen=True)
class Definition:
  """A whole sweep; `asked` names the tasks that are to be run."""
  base: Config
  tasks: dict
  asked: tuple
  grid: dict = dataclasses.field(default_factory=dict)
  select: str = 'val/accuracy'
  report: str = 'test/accuracy'
  seeds: int = 1
  benchmark: str = ''
  # Every run in its debug form, see `vit_jax.training.debug_form`.
  debug: bool = False
  # The cells that `cells.make` has made: each takes milliseconds, there are hundreds,
  # and all are gone through again after every run. Not copied by `replace`.
  made: dict = dataclasses.field(
      default_factory=dict, init=False, compare=False, repr=False)

  def asked_tasks(self) -> list:
    return [task for name, task in self.tasks.items() if name in self.asked]

  def points(self) -> list:
    """Every combination {dotted key: value}, the last key varying fastest."""
    return [dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())]


def load(spec: str, overrides=(), tasks='', grid=(), seeds=0,
         debug=False) -> Definition:
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
  definition = from_dict(base, values or {}, re.sub(r'[^\w.+-]', '_', stem))
  changed = dict(definition.grid)
  for word in grid:
    changed.update(flags.parse_grid(word, base))
  definition = dataclasses.replace(
      definition, grid=changed, seeds=seeds or definition.seeds, debug=debug,
      asked=flags.select_tasks(tasks, definition.tasks))
  _check_overrides(definition, flags.overridden_keys(overrides))
  return definition


def from_dict(base: Config, values: dict, default_task: str) -> Definition:
  """The definition of a dict as `get_sweep` returns it."""
  _check_keys(values, _KEYS, 'get_sweep()')
  tasks = {}
  for name, task in (values.get('tasks') or {default_task: {}}).items():
    _check_keys(task, _TASK_KEYS, f'Task {name!r} of get_sweep()')
    if not re.fullmatch(r'[\w.+-]+', name):
      raise UserError(f'Task {name!r} of get_sweep() names a folder; give it letters, '
                      'digits, _, ., + and - alone.')
    tasks[name] = Task(name, task.get('group', ''), dict(task.get('search') or {}),
                       dict(task['final']) if task.get('final') else None)
  grid = {key: flags.check_values(key, points, base)
          for key, points in (values.get('grid') or {}).items()}
  benchmark = values.get('benchmark', '')
  if benchmark and benchmark not in published.BENCHMARKS:
    raise UserError(f"'benchmark' of get_sweep() is {benchmark!r}; known are "
                    f'{", ".join(published.BENCHMARKS)}.')
  seeds = values.get('seeds', 1)
  if not isinstance(seeds, int) or seeds < 1:
    raise UserError(f"'seeds' of get_sweep() is {seeds!r}; give a number from 1.")
  return Definition(
      base, tasks, tuple(tasks), grid, values.get('select', 'val/accuracy'),
      values.get('report', 'test/accuracy'), seeds, benchmark)


def to_json(definition: Definition) -> dict:
  """What `from_json` reads, as JSON can hold it."""
  return {
      'config': config_lib.to_dict(definition.base),
      'tasks': {t.name: {'group': t.group, 'search': t.search, 'final': t.final}
                for t in definition.tasks.values()},
      **{name: getattr(definition, name)
         for name in ('asked', 'grid', 'select', 'report', 'seeds', 'benchmark',
                      'debug')}}


def from_json(values: dict) -> Definition:
  values = dict(values)
  base = config_lib.from_dict(values.pop('config'))
  asked, debug = tuple(values.pop('asked')), values.pop('debug')
  return dataclasses.replace(from_dict(base, values, ''), asked=asked, debug=debug)


def merge(old: Definition, new: Definition, folder) -> Definition:
  """`old` extended by the tasks, points and seeds of `new`.

  Raises:
    UserError: if they are not the same sweep, with all differences.
  """
  wrong = [f'  config.{key}: {a!r} there, {b!r} here' for key, a, b in
           config_lib.differences(old.base, new.base, sweep=True)]
  for name in ('select', 'report', 'debug'):
    a, b = getattr(old, name), getattr(new, name)
    wrong += [f'  {name}: {a!r} there, {b!r} here'] if a != b else []
  if set(old.grid) != set(new.grid):
    wrong.append(f'  keys of the grid: {", ".join(old.grid) or "none"} there, '
                 f'{", ".join(new.grid) or "none"} here')
  for name in old.tasks.keys() & new.tasks.keys():
    a, b = _plain(old.tasks[name]), _plain(new.tasks[name])
    wrong += [f'  task {name}, its {part!r}: {a[part]!r} there, {b[part]!r} here'
              for part in a if a[part] != b[part]]
  if wrong:
    raise UserError(
        f'--workdir={folder} holds another sweep:\n' + '\n'.join(wrong) +
        '\nNothing was changed. Tasks, values of the grid and seeds may be added; for '
        'anything else give another --workdir.')
  tasks = {**old.tasks, **new.tasks}
  return dataclasses.replace(
      new, tasks=tasks,
      asked=tuple(n for n in tasks if n in old.asked or n in new.asked),
      grid={key: (*values, *(v for v in new.grid[key] if v not in values))
            for key, values in old.grid.items()},
      seeds=max(old.seeds, new.seeds), benchmark=new.benchmark or old.benchmark)


def _plain(task):
  # JSON knows no tuples.
  def plain(value):
    if isinstance(value, dict):
      return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
      return [plain(v) for v in value]
    return value
  return plain(dataclasses.asdict(task))


def _read_file(spec):
  module, path, arg = config_lib.read_module(spec)
  get_sweep = getattr(module, 'get_sweep', None)
  if get_sweep is None:
    return None
  takes_arg = bool(inspect.signature(get_sweep).parameters)
  values = get_sweep(arg) if arg and takes_arg else get_sweep()
  if not isinstance(values, dict):
    raise UserError(f'get_sweep() of {path} returned {values!r}; expected a dict.')
  return values


def _check_keys(values, known, where):
  for key in values:
    if key not in known:
      raise UserError(f'{where} has a key {key!r}; expected one of '
                      f'{", ".join(known)}.')


def _check_overrides(definition, keys):
  # Cells would silently replace what was asked for.
  for key in keys:
    if key in definition.grid:
      raise UserError(
          f'--config.{key} is given, but the grid sets this key. Give '
          f"--grid '{key}=VALUE' for a grid with this value alone.")
    if key == 'seed':
      continue
    for task in definition.asked_tasks():
      if key in task.search or key in (task.final or {}):
        raise UserError(
            f'--config.{key} is given, but the task {task.name} sets this key '
            'itself. Change it in get_sweep() of the config file.')
