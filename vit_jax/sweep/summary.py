"""The numbers of a sweep's report: per task, per group and over all tasks."""

import csv
import dataclasses
import io
import statistics
from typing import Any

from vit_jax.sweep import cells, schedule, selection
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResult, CellResults
from vit_jax.sweep.selection import TaskSelection


@dataclasses.dataclass(frozen=True)
class Mean:
  """Unweighted mean of the tasks' medians."""
  name: str
  # Over the tasks that are complete; a benchmark's number only if none is missing.
  value: float | None
  complete: int
  total: int
  # Lowest and highest of the means that single seeds give; None unless complete.
  spread: tuple[float, float] | None

  @property
  def partial(self) -> bool:
    return self.complete < self.total


@dataclasses.dataclass(frozen=True)
class CellOutcome:
  """What is known of a cell: its result, its last failure, or neither."""
  cell: Cell
  result: CellResult | None
  error: dict[str, Any] | None

  @property
  def state(self) -> str:
    """'finished', 'diverged', 'failed' or 'unfinished'."""
    if self.result is not None:
      return 'diverged' if self.result.diverged else 'finished'
    return 'unfinished' if self.error is None else 'failed'

  @property
  def trouble(self) -> str:
    """Why a cell that diverged or failed has no number; '' for all others."""
    if self.result is not None:
      return self.result.diverged
    return '' if self.error is None else self.error['message']


@dataclasses.dataclass(frozen=True)
class Summary:
  """The state of all tasks that were asked for so far."""
  sweep: SweepDefinition
  selections: list[TaskSelection]
  groups: list[Mean]
  overall: Mean
  # Of everything that is known to be run.
  outcomes: list[CellOutcome]
  # Cells of a second stage whose settings are not known yet.
  waiting: int

  @property
  def finished(self) -> int:
    return sum(outcome.result is not None for outcome in self.outcomes)

  @property
  def total(self) -> int:
    return len(self.outcomes) + self.waiting


def summarize(sweep: SweepDefinition, results: CellResults) -> Summary:
  """The summary with the results that there are now.

  The means are over all tasks that the definition has: a task that nobody asked for
  is missing in them.
  """
  found = [selection.select(sweep, task, results) for task in sweep.asked_tasks()]
  groups: dict[str, list[str]] = {}
  for task in sweep.tasks.values():
    groups.setdefault(task.group, []).append(task.name)
  means = [_mean(group, names, found) for group, names in groups.items() if group]
  expected = schedule.expected_cells(sweep, results)
  outcomes = [CellOutcome(e.cell, results.get(e.cell), results.error(e.cell))
              for e in expected if e.known]
  return Summary(sweep, found, means, _mean('all', list(sweep.tasks), found),
                 outcomes, len(expected) - len(outcomes))


def _mean(name: str, tasks: list[str], selections: list[TaskSelection]) -> Mean:
  complete = [s for s in selections if s.task.name in tasks and s.complete]
  value = (statistics.fmean(statistics.median(s.values) for s in complete)
           if complete else None)
  spread = None
  if complete and len(complete) == len(tasks):
    # All have the same number of seeds, as they are complete.
    seeds = [statistics.fmean(values) for values in
             zip(*(s.values for s in complete), strict=True)]
    spread = min(seeds), max(seeds)
  return Mean(name, value, len(complete), len(tasks), spread)


def in_percent(metric: str) -> bool:
  """Whether people read this metric in percent; files hold it from 0 to 1."""
  return metric.endswith('accuracy')


def metric_text(metric: str, value: float | None) -> str:
  """'97.77' (percent) of an accuracy, four digits of anything else."""
  if value is None:
    return '-'
  return f'{100 * value:.2f}' if in_percent(metric) else f'{value:.4g}'


def choice_text(selected: TaskSelection) -> str:
  """The settings that a task's number was measured with, or why there are none."""
  if selected.winner is not None:
    return cells.settings_text(selected.winner) or '-'
  return 'none: all diverged' if selected.decided else 'not selected yet'


def to_json(summary: Summary) -> dict[str, Any]:
  """Everything in the report, for scripts; accuracies from 0 to 1."""
  sweep = summary.sweep
  return {
      'select': sweep.select, 'report': sweep.report,
      'seeds': sweep.seeds, 'benchmark': sweep.benchmark,
      'finished_cells': summary.finished, 'cells_in_all': summary.total,
      'tasks': {s.task.name: _task_json(s) for s in summary.selections},
      'groups': {mean.name: _mean_json(mean) for mean in summary.groups},
      'all': _mean_json(summary.overall),
      'cells': [_cell_json(outcome) for outcome in summary.outcomes]}


def _mean_json(mean: Mean) -> dict[str, Any]:
  # `value` is null rather than a number that another set of tasks would have.
  return {'value': None if mean.partial else mean.value,
          'partial_value': mean.value if mean.partial else None,
          'tasks': mean.complete, 'tasks_in_all': mean.total, 'spread': mean.spread}


def _task_json(selected: TaskSelection) -> dict[str, Any]:
  task, values = selected.task, selected.values
  return {
      'group': task.group, 'complete': selected.complete, 'median': selected.median,
      'spread': [min(values), max(values)] if values else None,
      'values': values, 'settings': selected.winner,
      'selected_by': selected.selected_by if selected.points else None,
      'selection_score': selected.score,
      'points': [{'settings': point.settings, 'score': point.score}
                 for point in selected.points],
      'runs': [cell.id for cell in selected.finals],
      'stages': 1 if task.final is None else 2,
      'stage': cells.ONLY if task.final is None else cells.FINAL}


def _cell_json(outcome: CellOutcome) -> dict[str, Any]:
  cell, result = outcome.cell, outcome.result
  return {'id': cell.id, 'task': cell.task, 'stage': cell.stage,
          'settings': cell.settings, 'seed': cell.seed, 'state': outcome.state,
          'metrics': result.metrics if result else {},
          'steps': result.steps if result else None,
          'seconds': result.seconds if result else None}


def to_csv(summary: Summary) -> str:
  """A row per cell: its task, settings, state and metrics."""
  sweep = summary.sweep
  keys = list(sweep.grid)
  metrics = sorted({name for outcome in summary.outcomes if outcome.result
                    for name in outcome.result.metrics})
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['id', 'task', 'group', 'stage', 'seed', *keys, 'state', 'selected',
                   'steps', 'seconds', *metrics])
  winners = {s.task.name: s.winner for s in summary.selections}
  for outcome in summary.outcomes:
    cell, result = outcome.cell, outcome.result
    writer.writerow([
        cell.id, cell.task, sweep.tasks[cell.task].group, cell.stage,
        cell.seed, *(cell.settings[key] for key in keys), outcome.state,
        int(winners[cell.task] == cell.settings),
        result.steps if result else '', result.seconds if result else '',
        *(result.metrics.get(name, '') if result else '' for name in metrics)])
  return text.getvalue()
