"""What `vit_jax sweep` does: runs a sweep, or shows its plan, or writes its report."""

import dataclasses

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import DataSection
from vit_jax.data import preparing
from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, console, loading, report, schedule
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResults, SweepDirectory


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags, see `vit_jax sweep --help`."""
  config: str
  overrides: tuple[str, ...] = ()
  tasks: str = ''
  grid: tuple[str, ...] = ()
  seeds: int = 0
  shard: str = ''
  keep_checkpoints: str = 'final'
  debug: bool = False


def run(workdir: str, settings: Settings) -> None:
  """Runs this worker's share, then writes the report; see `runner.run`.

  Raises:
    UserError: before anything starts for bad flags, impossible cells and data sets
      that are not prepared; at the end for cells that failed.
  """
  # Before the slow imports: mistakes answer at once.
  shard = loading.parse_shard(settings.shard)
  loading.check_keep_checkpoints(settings.keep_checkpoints)
  directory = SweepDirectory(workdir)
  sweep = _load(settings, directory)
  missing = missing_data_sets(sweep, directory.results)
  if missing:
    raise UserError(missing)
  from vit_jax.sweep import runner
  runner.run(sweep, directory, shard, settings.keep_checkpoints)


def print_plan(workdir: str, settings: Settings) -> None:
  """The cells of a share, what is done, how long it takes; starts nothing."""
  shard = loading.parse_shard(settings.shard)
  directory = SweepDirectory(workdir)
  sweep = _load(settings, directory)
  print(console.plan(sweep, directory, shard))
  missing = missing_data_sets(sweep, directory.results)
  if missing:
    print(f'\n{missing}')


def write_report(workdir: str, settings: Settings | None = None) -> None:
  """Writes the report with what is finished, and prints its head.

  With settings it first makes sure that the directory holds that sweep.
  """
  directory = SweepDirectory(workdir)
  if settings:
    _load(settings, directory)
  summary = report.write(directory)
  if hosts.is_main():
    print(console.brief(summary))
    for name in (report.MARKDOWN, report.HTML, report.CSV, report.JSON):
      print(f'  {directory.path / name}')


def _load(settings: Settings, directory: SweepDirectory) -> SweepDefinition:
  if not settings.config:
    raise UserError('Give --config=FILE, a config file to sweep. Only --report does '
                    'without.')
  asked = loading.load(
      settings.config, settings.overrides, settings.tasks, settings.grid,
      settings.seeds, settings.debug)
  sweep = dataclasses.replace(directory.extended(asked), asked=asked.asked)
  cells.check_cells(sweep)
  return sweep


def missing_data_sets(sweep: SweepDefinition, results: CellResults) -> str:
  """What has to be prepared first and how, as one message; '' if nothing is missing.

  Data of tasks whose cells are all finished is not needed.
  """
  sections: dict[tuple[str, str], DataSection] = {}
  # Names of the tasks, in their order.
  tasks: dict[tuple[str, str], dict[str, bool]] = {}
  for expected in schedule.expected_cells(sweep, results):
    cell = expected.cell
    if results.get(cell) is not None:
      continue
    for data in [cell.config.data, *(
        evaluator_settings.data_section(cell.config, section)
        for section in cell.config.evaluators)]:
      key = data.name, data.dir
      sections.setdefault(key, data)
      tasks.setdefault(key, {})[cell.task] = True
  absent = [key for key, data in sections.items() if not preparing.is_prepared(data)]
  if not absent:
    return ''
  parts = [f'{name} (of {", ".join(tasks[name, folder])}):\n'
           + _indented(preparing.how_to_prepare(name, folder))
           for name, folder in absent]
  blocked = {task for key in absent for task in tasks[key]}
  others = [name for name in sweep.asked if name not in blocked]
  hint = (f'\nThe tasks whose data is there: --tasks={",".join(others)}'
          if others else '')
  return (f'{len(absent)} data set(s) of this sweep are not prepared, so nothing was '
          'started.\n\n' + '\n\n'.join(parts) + hint)


def _indented(text: str) -> str:
  return '\n'.join(f'  {line}' for line in text.splitlines())
