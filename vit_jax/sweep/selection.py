"""Which point of the grid wins a task, and what its runs have measured."""

import dataclasses
import statistics
from typing import Any

from vit_jax.objectives.objective import Direction
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition, SweepTask
from vit_jax.sweep.directory import CellResult, CellResults
from vit_jax.training.checks import metrics_of


@dataclasses.dataclass(frozen=True)
class ScoredPoint:
  """A point of the grid with its runs of the first stage."""
  settings: dict[str, Any]
  cells: list[Cell]
  # Median over the cells of the metric it is selected by; None while one is missing,
  # or if one diverged.
  score: float | None


@dataclasses.dataclass(frozen=True)
class TaskSelection:
  """Of one task, with the results that there were."""
  task: SweepTask
  # Empty where nothing is selected.
  points: list[ScoredPoint]
  selected_by: str
  # Whether a higher or a lower value of it wins.
  better: Direction
  # Every cell of the first stage has a result.
  decided: bool
  # None while undecided, or if every point diverged.
  winner: dict[str, Any] | None
  # The runs that are reported, known once there is a winner.
  finals: list[Cell]
  # The reported metric of those that have it, in the order of the seeds.
  values: list[float]

  @property
  def complete(self) -> bool:
    return bool(self.finals) and len(self.values) == len(self.finals)

  @property
  def median(self) -> float | None:
    return statistics.median(self.values) if self.values else None

  @property
  def score(self) -> float | None:
    """What the winner was selected by."""
    return next((p.score for p in self.points if p.settings == self.winner), None)

  @property
  def searched(self) -> bool:
    """Whether there were several points to select from."""
    return len(self.points) > 1


def select(sweep: SweepDefinition, task: SweepTask,
           results: CellResults) -> TaskSelection:
  """The state of a task's selection with the results that there are now."""
  first = cells.first_stage(sweep, task)
  metric = _selecting_metric(sweep, first)
  better = _better(metric, first)
  points = []
  for point in sweep.points():
    group = [cell for cell in first if cell.settings == point]
    if group:
      points.append(ScoredPoint(point, group, _median(group, metric, results)))
  decided = all(results.get(cell) is not None for cell in first)
  winner = None
  if decided:
    winner = _best(points, better) if points else sweep.points()[0]
  finals = [] if winner is None else cells.final_stage(sweep, task, winner)
  values = [value for cell in finals
            if (value := _value(results.get(cell), sweep.report)) is not None]
  return TaskSelection(task, points, metric, better, decided, winner, finals, values)


def _selecting_metric(sweep: SweepDefinition, first: list[Cell]) -> str:
  """`select`, or what is reported where a task of one stage has no such split."""
  if all(cells.measures(cell.config, sweep.select) for cell in first):
    return sweep.select
  return sweep.report


def diverged_for_good(sweep: SweepDefinition, results: CellResults) -> list[str]:
  """A line for every task or reported run that will have no number."""
  lines = []
  for task in sweep.asked_tasks():
    selection = select(sweep, task, results)
    if selection.decided and selection.winner is None:
      lines.append(f'{task.name}: diverged at every point of the grid')
    for cell in selection.finals:
      result = results.get(cell)
      if result is not None and result.diverged:
        lines.append(f'{cell.title}: {result.diverged}')
  return lines


def _better(metric: str, first: list[Cell]) -> Direction:
  """As the objective or the evaluator that measures it says."""
  known = metrics_of(first[0].config) if first else {}
  return known[metric].better if metric in known else 'max'


def _best(points: list[ScoredPoint], better: Direction) -> dict[str, Any] | None:
  """The settings with the best score; of equal ones the first of the grid."""
  scored = [(point.score, point) for point in points if point.score is not None]
  if not scored:
    return None
  sign = -1 if better == 'min' else 1
  return max(scored, key=lambda pair: sign * pair[0])[1].settings


def _median(group: list[Cell], metric: str, results: CellResults) -> float | None:
  values = [_value(results.get(cell), metric) for cell in group]
  known = [value for value in values if value is not None]
  # A point of which one run diverged is none to recommend.
  return statistics.median(known) if len(known) == len(values) else None


def _value(result: CellResult | None, metric: str) -> float | None:
  if result is None or result.diverged:
    return None
  if metric not in result.metrics:
    raise UserError(
        f'The result of cell {result.id} has no {metric}, only '
        f'{", ".join(result.metrics) or "nothing"}. Move the folder of the cell away '
        'to run it again.')
  return result.metrics[metric]
