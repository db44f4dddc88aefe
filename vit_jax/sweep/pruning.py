"""Removing the checkpoints of runs that only served to select a setting.

Each takes several times the size of the model; a sweep over 19 tasks makes a hundred.
"""

import shutil

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import standings, timing
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results

# Whose checkpoints stay: of the runs that are reported, of all, of none.
KEEP = ('final', 'all', 'none')


def prune(cell: Cell, definition: Definition, results: Results, keep: str):
  """Removes the checkpoints that `keep` gives up, now that `cell` has its result."""
  if keep == 'all':
    return
  if keep == 'none' or cell.stage == cells_lib.SEARCH:
    _drop(cell, results)
  elif cell.stage == cells_lib.ONLY:
    # Until all points are finished, any of them may turn out to be reported.
    standing = standings.of_task(definition, definition.tasks[cell.task], results)
    if standing.decided:
      for _, cells, _ in standing.points:
        for other in cells:
          if other not in standing.finals:
            _drop(other, results)


def prune_all(definition: Definition, results: Results, keep: str):
  """The same for what a process killed between result and removal has left."""
  for cell, known in timing.expected_cells(definition, results):
    if known and results.get(cell) is not None:
      prune(cell, definition, results, keep)


def _drop(cell, results):
  # Another worker may be doing the same.
  shutil.rmtree(results.folder(cell) / 'checkpoints', ignore_errors=True)
