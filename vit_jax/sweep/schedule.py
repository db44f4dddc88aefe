"""Which cells there are to run, by which worker, and how long that takes."""

import dataclasses
import statistics
from collections.abc import Callable, Container, Iterator

from vit_jax.sweep import cells, selection
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition, SweepTask
from vit_jax.sweep.directory import CellResults


@dataclasses.dataclass(frozen=True)
class ExpectedCell:
  """A cell that a sweep runs in the end, or stands for one."""
  cell: Cell
  # False: it is that of the longest point of the grid, as the winner is not known yet.
  known: bool


def expected_cells(sweep: SweepDefinition, results: CellResults) -> list[ExpectedCell]:
  """Everything asked for, finished or not, task by task."""
  expected = []
  for task in sweep.asked_tasks():
    first = cells.first_stage(sweep, task)
    expected += [ExpectedCell(cell, True) for cell in first]
    if task.final is None:
      continue
    selected = selection.select(sweep, task, results)
    if selected.decided:
      expected += [ExpectedCell(cell, True) for cell in selected.finals]
      continue
    longest = max(first, key=lambda cell: cell.config.total_steps)
    expected += [ExpectedCell(cell, False) for cell in cells.final_stage(
        sweep, task, longest.settings)]
  return expected


def worker_of_cell(sweep: SweepDefinition,
                   count: int) -> Callable[[Cell], int | None]:
  """`cell -> worker` of `count` that it is dealt to; None: whoever finds it ready.

  What can be known before any result is dealt out: by task where there are at least
  `count` of them, so that a task's programs are compiled by one worker, else by cell.
  """
  tasks = sweep.asked_tasks()
  if len(tasks) >= count:
    of_task = {task.name: n % count for n, task in enumerate(tasks)}
    return lambda cell: of_task[cell.task]
  known = [cell for task in tasks for cell in _known_cells(sweep, task)]
  of_cell = {cell.id: n % count for n, cell in enumerate(known)}
  return lambda cell: of_cell.get(cell.id)


def candidates(sweep: SweepDefinition, results: CellResults,
               shard: tuple[int, int]) -> Iterator[Cell]:
  """The cells that worker `i` of `n` may run now, in the order it should try them.

  Own ones first, see `worker_of_cell`. Retrained winners belong to whoever finds them
  ready, so that no worker waits for another.

  Args:
    sweep: the sweep.
    results: of the finished cells.
    shard: (i, n).

  Yields:
    `Cell`s, finished ones among them.
  """
  index, count = shard
  worker = worker_of_cell(sweep, count)
  for task in sweep.asked_tasks():
    for cell in _known_cells(sweep, task):
      if worker(cell) == index:
        yield cell
    for cell in _retrained_winners(sweep, task, results):
      if worker(cell) == index:
        yield cell
  for task in sweep.asked_tasks():
    for cell in _retrained_winners(sweep, task, results):
      if worker(cell) != index:
        yield cell


def _known_cells(sweep: SweepDefinition, task: SweepTask) -> list[Cell]:
  first = cells.first_stage(sweep, task)
  return first or cells.final_stage(sweep, task, sweep.points()[0])


def _retrained_winners(sweep: SweepDefinition, task: SweepTask,
                       results: CellResults) -> list[Cell]:
  if task.final is None or not cells.first_stage(sweep, task):
    return []  # Dealt out.
  return selection.select(sweep, task, results).finals


def seconds_left(sweep: SweepDefinition, results: CellResults,
                 given_up: Container[str]) -> float | None:
  """Of one worker for all cells without a result, but for ids that are given up.

  None if it cannot be known yet.
  """
  listed = [expected.cell for expected in expected_cells(sweep, results)]
  return Pace(listed, results).total([
      cell for cell in listed
      if results.get(cell) is None and cell.id not in given_up])


class Pace:
  """Seconds per step of finished cells.

  A cell's time counts as a whole, with its start, its evaluations and its checkpoints,
  so that runs of the same kind are what it predicts best.
  """

  def __init__(self, measured: list[Cell], results: CellResults) -> None:
    self._per_task: dict[str, list[float]] = {}
    self._all: list[float] = []
    for cell in measured:
      result = results.get(cell)
      # Of a resumed run only the time of its last part is known.
      if result is None or result.resumed or result.diverged or not result.steps:
        continue
      self._per_task.setdefault(cell.task, []).append(result.seconds / result.steps)
      self._all.append(result.seconds / result.steps)

  def seconds(self, cell: Cell) -> float | None:
    """Of a whole run, None if no cell has finished or its length is in epochs."""
    paces = self._per_task.get(cell.task) or self._all
    if not paces or not cell.config.total_steps:
      return None
    return statistics.median(paces) * cell.config.total_steps

  def total(self, rest: list[Cell]) -> float | None:
    """Of all these cells one after another, None if one is unknown."""
    total = 0.0
    for cell in rest:
      seconds = self.seconds(cell)
      if seconds is None:
        return None
      total += seconds
    return total
