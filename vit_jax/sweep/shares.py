"""Which worker runs which cells."""

from collections.abc import Callable

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import standings
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results


def deal(definition: Definition, count: int) -> Callable[[Cell], int | None]:
  """`cell -> worker` of `count` that it is dealt to; None: whoever finds it ready.

  What can be known before any result is dealt out: by task where there are at least
  `count` of them, so that a task's programs are compiled by one worker, else by cell.
  """
  tasks = definition.asked_tasks()
  if len(tasks) >= count:
    of_task = {task.name: n % count for n, task in enumerate(tasks)}
    return lambda cell: of_task[cell.task]
  known = [cell for task in tasks for cell in _known(definition, task)]
  of_cell = {cell.id: n % count for n, cell in enumerate(known)}
  return lambda cell: of_cell.get(cell.id)


def candidates(definition: Definition, results: Results, shard: tuple[int, int]):
  """The cells that worker `i` of `n` may run now, in the order it should try them.

  Own ones first, see `deal`. Retrained winners belong to whoever finds them ready, so
  that no worker waits for another.

  Args:
    definition: the sweep.
    results: of the finished cells.
    shard: (i, n).

  Yields:
    `Cell`s, finished ones among them.
  """
  index, count = shard
  worker = deal(definition, count)
  for task in definition.asked_tasks():
    for cell in _known(definition, task):
      if worker(cell) == index:
        yield cell
    for cell in _winners(definition, task, results):
      if worker(cell) == index:
        yield cell
  for task in definition.asked_tasks():
    for cell in _winners(definition, task, results):
      if worker(cell) != index:
        yield cell


def _known(definition, task) -> list[Cell]:
  first = cells_lib.first_stage(definition, task)
  return first or cells_lib.final_stage(definition, task, definition.points()[0])


def _winners(definition, task, results) -> list[Cell]:
  if task.final is None or not cells_lib.first_stage(definition, task):
    return []  # Dealt out.
  return standings.of_task(definition, task, results).finals
