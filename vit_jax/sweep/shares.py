"""Which worker runs which cells."""

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import standings
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results


def candidates(definition: Definition, results: Results, shard: tuple[int, int]):
  """The cells that worker `i` of `n` may run now, in the order it should try them.

  What can be known before any result is dealt out: by task where there are at least
  `n` of them, so that a task's programs are compiled by one worker, else by cell.
  Retrained winners belong to whoever finds them ready, those of own tasks first, so
  that no worker waits for another.

  Args:
    definition: the sweep.
    results: of the finished cells.
    shard: (i, n).

  Yields:
    `Cell`s, finished ones among them.
  """
  index, count = shard
  tasks = definition.asked_tasks()
  by_task = len(tasks) >= count
  rest, dealt = [], 0
  for number, task in enumerate(tasks):
    for cell in _known(definition, task):
      if (number if by_task else dealt) % count == index:
        yield cell
      dealt += 1
    if by_task and number % count == index:
      yield from _winners(definition, task, results)
    else:
      rest.append(task)
  for task in rest:
    yield from _winners(definition, task, results)


def _known(definition, task) -> list[Cell]:
  first = cells_lib.first_stage(definition, task)
  return first or cells_lib.final_stage(definition, task, definition.points()[0])


def _winners(definition, task, results) -> list[Cell]:
  if task.final is None or not cells_lib.first_stage(definition, task):
    return []  # Dealt out.
  return standings.of_task(definition, task, results).finals
