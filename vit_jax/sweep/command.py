"""What `vit_jax sweep` does: runs a sweep, or shows its plan, or writes its report."""

import dataclasses

from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, flags, prepared, pruning
from vit_jax.sweep import definition as definition_lib
from vit_jax.sweep import plan as plan_lib
from vit_jax.sweep import report as report_lib
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.folder import Folder


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags, see `vit_jax sweep --help`."""
  config: str
  overrides: tuple = ()
  tasks: str = ''
  grid: tuple = ()
  seeds: int = 0
  shard: str = ''
  keep_checkpoints: str = 'final'
  debug: bool = False


def run(workdir: str, settings: Settings):
  """Runs this worker's share, then writes the report; see `runner.run`.

  Raises:
    UserError: before anything starts for bad flags, impossible cells and data sets
      that are not prepared; at the end for cells that failed.
  """
  # Before the slow imports: mistakes answer at once.
  shard = flags.parse_shard(settings.shard)
  if settings.keep_checkpoints not in pruning.KEEP:
    raise UserError(f'--keep_checkpoints={settings.keep_checkpoints}; choose one of '
                    f'{", ".join(pruning.KEEP)}.')
  folder = Folder(workdir)
  definition = _load(settings, folder)
  missing = prepared.missing(definition, folder.results)
  if missing:
    raise UserError(missing)
  from vit_jax.sweep import runner
  runner.run(definition, folder, shard, settings.keep_checkpoints)


def plan(workdir: str, settings: Settings):
  """Prints the cells of a share, what is done, how long it takes; starts nothing."""
  shard = flags.parse_shard(settings.shard)
  folder = Folder(workdir)
  definition = _load(settings, folder)
  print(plan_lib.describe(definition, folder, shard))
  missing = prepared.missing(definition, folder.results)
  if missing:
    print(f'\n{missing}')


def report(workdir: str, settings: Settings | None = None):
  """Writes the report with what is finished, and prints its head.

  With settings it first makes sure that the directory holds that sweep.
  """
  folder = Folder(workdir)
  if settings:
    _load(settings, folder)
  numbers = report_lib.write(folder)
  if hosts.is_main():
    print(report_lib.brief(numbers))
    for name in (report_lib.MARKDOWN, report_lib.HTML, report_lib.CSV, report_lib.JSON):
      print(f'  {folder.path / name}')


def _load(settings: Settings, folder: Folder) -> Definition:
  if not settings.config:
    raise UserError('Give --config=FILE, a config file to sweep. Only --report does '
                    'without.')
  asked = definition_lib.load(
      settings.config, settings.overrides, settings.tasks, settings.grid,
      settings.seeds, settings.debug)
  definition = dataclasses.replace(folder.extended(asked), asked=asked.asked)
  cells.check(definition)
  return definition
