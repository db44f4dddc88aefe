"""How long a sweep will take, judged by the cells that are finished."""

import statistics

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import standings
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results


def expected_cells(definition: Definition, results: Results) -> list:
  """(cell, known) of everything asked for, finished or not, task by task.

  Before a winner is known, the cells of its task's second stage are those of the
  longest point of the grid, with `known` False.
  """
  rows = []
  for task in definition.asked_tasks():
    first = cells_lib.first_stage(definition, task)
    rows += [(cell, True) for cell in first]
    if task.final is None:
      continue
    standing = standings.of_task(definition, task, results)
    if standing.decided:
      rows += [(cell, True) for cell in standing.finals]
      continue
    longest = max(first, key=lambda cell: cell.config.total_steps)
    rows += [(cell, False) for cell in cells_lib.final_stage(
        definition, task, longest.settings)]
  return rows


class Pace:
  """Seconds per step of finished cells.

  A cell's time counts as a whole, with its start, its evaluations and its checkpoints,
  so that runs of the same kind are what it predicts best.
  """

  def __init__(self, cells: list[Cell], results: Results):
    self._per_task, self._all = {}, []
    for cell in cells:
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

  def total(self, cells: list[Cell]) -> float | None:
    """Of all these cells one after another, None if one is unknown."""
    each = [self.seconds(cell) for cell in cells]
    return None if None in each else sum(each)
