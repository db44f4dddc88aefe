"""The runs that a sweep consists of, each a plain call of `training.train`."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep.definition import SweepDefinition, SweepTask
from vit_jax.training.checks import check_measurements, check_run
from vit_jax.training.debug_form import debug_form

# Scored on `select` / the winner, retrained / the only stage of a task without one.
SEARCH, FINAL, ONLY = 'search', 'final', 'run'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run; `id` names its folder and stays the same as long as its content does."""
  id: str
  task: str
  stage: str
  # The point of the grid, {dotted key: value}.
  settings: dict[str, Any]
  seed: int
  config: Config

  @property
  def title(self) -> str:
    return ' '.join(filter(None, (
        self.task, self.stage, settings_text(self.settings), f'seed={self.seed}')))


def make(sweep: SweepDefinition, task: SweepTask, stage: str, settings: dict[str, Any],
         seed: int) -> Cell:
  """The cell of a task at a point {dotted key: value} of the grid.

  Raises:
    UserError: for settings that no run can have, naming the cell.
  """
  key = task.name, stage, repr(settings), seed
  if key not in sweep.cell_cache:
    sweep.cell_cache[key] = _make(sweep, task, stage, settings, seed)
  return sweep.cell_cache[key]


def _make(sweep: SweepDefinition, task: SweepTask, stage: str,
          settings: dict[str, Any], seed: int) -> Cell:
  values = dict(task.search)
  if stage == FINAL:
    values.update(task.final or {})
  values |= {**settings, 'seed': seed}
  try:
    config = check_measurements(
        config_lib.check(config_lib.with_values(sweep.base, values)))
    if sweep.debug:
      config = debug_form(config)
  except UserError as e:
    raise UserError(f'Task {task.name}, {stage}, {settings_text(settings)}: {e}') from e
  slug = '_'.join(_slug(f'{key.rsplit(".", 1)[-1]}-{value}')
                  for key, value in settings.items())
  name = '_'.join(filter(None, (
      task.name, stage, slug[:80], f'seed-{seed}', _digest(config))))
  return Cell(name, task.name, stage, settings, seed, config)


def first_stage(sweep: SweepDefinition, task: SweepTask) -> list[Cell]:
  """The cells that need no other's result.

  None where there is nothing to select: a task of two stages at a single point.
  """
  points, seeds = sweep.points(), _seeds(sweep)
  if task.final is None:
    return [make(sweep, task, ONLY, p, s) for p in points for s in seeds]
  if len(points) == 1:
    return []
  return [make(sweep, task, SEARCH, p, seeds[0]) for p in points]


def final_stage(sweep: SweepDefinition, task: SweepTask,
                winner: dict[str, Any]) -> list[Cell]:
  """The cells whose median is reported, given the selected point of the grid."""
  stage = ONLY if task.final is None else FINAL
  return [make(sweep, task, stage, winner, s) for s in _seeds(sweep)]


def check_cells(sweep: SweepDefinition) -> None:
  """Raises UserError if any cell could not run or would not measure what is needed."""
  for task in sweep.asked_tasks():
    search = first_stage(sweep, task)
    for point in sweep.points():
      for cell in final_stage(sweep, task, point):
        _check_cell(cell, sweep.report)
    for cell in search:
      if cell.stage == SEARCH:
        _check_cell(cell, sweep.select)


def _check_cell(cell: Cell, metric: str) -> None:
  if not measures(cell.config, metric):
    raise UserError(
        f'The sweep needs {metric} of {cell.title}, but this run does not measure it: '
        'config.data.val_split or test_split is empty there, or no evaluator has that '
        "name. Set it, or change 'select' and 'report' of get_sweep().")
  try:
    check_run(cell.config)
  except UserError as e:
    raise UserError(f'{cell.title}: {e}') from e


def measures(config: Config, metric: str) -> bool:
  """Whether a run evaluates what the metric is named after."""
  where = metric.partition('/')[0]
  if where in ('val', 'test'):
    return bool(config_lib.get(config, f'data.{where}_split'))
  return any(section.name == where for section in config.evaluators)


def settings_text(settings: Mapping[str, Any]) -> str:
  """'learning_rate=0.01 total_steps=500' of a point of the grid."""
  return ' '.join(f'{key.rsplit(".", 1)[-1]}={value}'
                  for key, value in settings.items())


def _seeds(sweep: SweepDefinition) -> list[int]:
  return [sweep.base.seed + k for k in range(sweep.seeds)]


def _slug(text: str) -> str:
  return re.sub(r'[^A-Za-z0-9.+-]+', '_', text).strip('_')


def _digest(config: Config) -> str:
  # Of what differs from the defaults, so that a setting which a later version adds
  # changes no name.
  different = {key: value for key, _, value in
               config_lib.differences(Config(), config, sweep=True)}
  text = json.dumps(different, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:8]
