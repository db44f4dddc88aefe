"""Which point of the grid wins a task, and what its runs have measured."""

import dataclasses
import statistics

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition, Task
from vit_jax.sweep.results import Results


@dataclasses.dataclass(frozen=True)
class Standing:
  """Of one task."""
  task: Task
  # The first stage: (point, its cells, median of the metric it is selected by or
  # None). Empty where nothing is selected.
  points: list
  selected_by: str
  # Every cell of the first stage has a result.
  decided: bool
  # None while undecided, or if every point diverged.
  winner: dict | None
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
    return next((s for p, _, s in self.points if p == self.winner), None)


def of_task(definition: Definition, task: Task, results: Results) -> Standing:
  """The standing with the results that there are now."""
  first = cells_lib.first_stage(definition, task)
  metric = selecting_metric(definition, first)
  points = []
  for point in definition.points():
    group = [cell for cell in first if cell.settings == point]
    if group:
      points.append((point, group, _median(group, metric, results)))
  decided = all(results.get(cell) is not None for cell in first)
  winner = None
  if decided:
    winner = _best(points, metric) if points else definition.points()[0]
  finals = [] if winner is None else cells_lib.final_stage(definition, task, winner)
  values = [value for cell in finals
            if (value := _value(results.get(cell), definition.report)) is not None]
  return Standing(task, points, metric, decided, winner, finals, values)


def selecting_metric(definition: Definition, first: list[Cell]) -> str:
  """`select`, or what is reported where a task of one stage has no such split."""
  if all(cells_lib.measures(cell.config, definition.select) for cell in first):
    return definition.select
  return definition.report


def without_number(definition: Definition, results: Results) -> list[str]:
  """A line for every task or reported run that diverged for good."""
  lines = []
  for task in definition.asked_tasks():
    standing = of_task(definition, task, results)
    if standing.decided and standing.winner is None:
      lines.append(f'{task.name}: diverged at every point of the grid')
    lines += [f'{cell.title}: {results.get(cell).diverged}'
              for cell in standing.finals
              if results.get(cell) and results.get(cell).diverged]
  return lines


def lower_is_better(metric: str) -> bool:
  return metric.endswith('loss')


def _best(points, metric):
  """The point with the best score; of equal ones the first of the grid."""
  scored = [(point, score) for point, _, score in points if score is not None]
  if not scored:
    return None
  sign = -1 if lower_is_better(metric) else 1
  return max(scored, key=lambda pair: sign * pair[1])[0]


def _median(group, metric, results):
  values = [_value(results.get(cell), metric) for cell in group]
  # A point of which one run diverged is none to recommend.
  return None if None in values else statistics.median(values)


def _value(result, metric):
  if result is None or result.diverged:
    return None
  return result.metrics[metric]
