"""The numbers of a sweep's report: per task, per group and over all tasks."""

import dataclasses
import statistics

from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import standings, timing
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results
from vit_jax.sweep.standings import Standing


@dataclasses.dataclass(frozen=True)
class Mean:
  """Unweighted mean of the tasks' medians."""
  name: str
  # Over the tasks that are complete; a benchmark's number only if none is missing.
  value: float | None
  complete: int
  total: int
  # Lowest and highest of the means that single seeds give; None unless complete.
  spread: tuple | None

  @property
  def partial(self) -> bool:
    return self.complete < self.total


@dataclasses.dataclass(frozen=True)
class Summary:
  definition: Definition
  standings: list[Standing]
  groups: list[Mean]
  overall: Mean
  # (cell, result or None, error or None) of everything that is known to be run.
  cells: list
  # Cells of a second stage whose settings are not known yet.
  waiting: int

  @property
  def finished(self) -> int:
    return sum(result is not None for _, result, _ in self.cells)

  @property
  def total(self) -> int:
    return len(self.cells) + self.waiting


def summarize(definition: Definition, results: Results) -> Summary:
  """The state of all tasks that were asked for so far.

  The means are over all tasks that the definition has: a task that nobody asked for
  is missing in them.
  """
  found = [standings.of_task(definition, task, results)
           for task in definition.asked_tasks()]
  groups = {}
  for task in definition.tasks.values():
    groups.setdefault(task.group, []).append(task.name)
  means = [_mean(group, names, found) for group, names in groups.items() if group]
  rows = timing.expected_cells(definition, results)
  cells = [(cell, results.get(cell), results.error(cell))
           for cell, known in rows if known]
  return Summary(definition, found, means, _mean('all', list(definition.tasks), found),
                 cells, len(rows) - len(cells))


def to_json(summary: Summary) -> dict:
  """Everything in the report, for scripts; accuracies from 0 to 1."""
  definition = summary.definition
  return {
      'select': definition.select, 'report': definition.report,
      'seeds': definition.seeds, 'benchmark': definition.benchmark,
      'finished_cells': summary.finished, 'cells_in_all': summary.total,
      'tasks': {s.task.name: _task_json(s) for s in summary.standings},
      'groups': {mean.name: _mean_json(mean) for mean in summary.groups},
      'all': _mean_json(summary.overall),
      'cells': [{'id': cell.id, 'task': cell.task, 'stage': cell.stage,
                 'settings': cell.settings, 'seed': cell.seed,
                 'state': state(result, error),
                 'metrics': result.metrics if result else {},
                 'steps': result.steps if result else None,
                 'seconds': result.seconds if result else None}
                for cell, result, error in summary.cells]}


def state(result, error) -> str:
  """'finished', 'diverged', 'failed' or 'unfinished'."""
  if result is not None:
    return 'diverged' if result.diverged else 'finished'
  return 'unfinished' if error is None else 'failed'


def _mean(name, tasks, found):
  complete = [s for s in found if s.task.name in tasks and s.complete]
  value = statistics.fmean(s.median for s in complete) if complete else None
  spread = None
  if complete and len(complete) == len(tasks):
    # All have the same number of seeds, as they are complete.
    seeds = [statistics.fmean(values) for values in
             zip(*(s.values for s in complete), strict=True)]
    spread = min(seeds), max(seeds)
  return Mean(name, value, len(complete), len(tasks), spread)


def _mean_json(mean):
  # `value` is null rather than a number that another set of tasks would have.
  return {'value': None if mean.partial else mean.value,
          'partial_value': mean.value if mean.partial else None,
          'tasks': mean.complete, 'tasks_in_all': mean.total, 'spread': mean.spread}


def _task_json(standing):
  return {
      'group': standing.task.group, 'complete': standing.complete,
      'median': standing.median,
      'spread': [min(standing.values), max(standing.values)]
                if standing.values else None,
      'values': standing.values, 'settings': standing.winner,
      'selected_by': standing.selected_by if standing.points else None,
      'selection_score': standing.score,
      'points': [{'settings': point, 'score': score}
                 for point, _, score in standing.points],
      'runs': [cell.id for cell in standing.finals],
      'stages': 1 if standing.task.final is None else 2,
      'stage': cells_lib.ONLY if standing.task.final is None else cells_lib.FINAL}
