"""What a sweep prints: its plan, the lines while it runs, and its result."""

from vit_jax.config.sections import Config
from vit_jax.models import variants
from vit_jax.sweep import schedule
from vit_jax.sweep.cells import Cell, settings_text
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResults, SweepDirectory, is_locked
from vit_jax.sweep.schedule import ExpectedCell, Pace
from vit_jax.sweep.summary import Summary, choice_text, in_percent, metric_text
from vit_jax.training.progress import duration


def plan(sweep: SweepDefinition, directory: SweepDirectory,
         shard: tuple[int, int]) -> str:
  """A table of a worker's cells, their totals and an estimate of the time.

  Cells that any worker may take are among them.
  """
  results = directory.results
  worker = schedule.worker_of_cell(sweep, shard[1])
  expected = [e for e in schedule.expected_cells(sweep, results)
              if worker(e.cell) in (shard[0], None)]
  if not expected:
    return (f'Worker {shard[0]} of {shard[1]} has nothing to do: there are fewer cells '
            'than workers.')
  pace = Pace([e.cell for e in expected], results)
  table = [('task', 'stage', 'settings', 'seed', 'steps', 'images', 'time', 'state')]
  table += [_plan_row(e, sweep, directory, pace) for e in expected]
  widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in table]
  return '\n'.join([*lines, '', *_plan_totals(expected, pace, sweep, results)])


def _plan_row(expected: ExpectedCell, sweep: SweepDefinition,
              directory: SweepDirectory, pace: Pace) -> tuple[str, ...]:
  cell, config = expected.cell, expected.cell.config
  seconds = pace.seconds(cell)
  return (
      cell.task, cell.stage,
      settings_text(cell.settings) or '-' if expected.known else
      'the winner of the search',
      str(cell.seed), _upper_bound([expected], sweep) + _length(config),
      f'{config.total_steps * config.batch_size:,}' if config.total_steps else '-',
      '-' if seconds is None else duration(seconds), _state(expected, directory))


def _upper_bound(expected: list[ExpectedCell], sweep: SweepDefinition) -> str:
  # A winner is counted with the longest runs of the grid.
  varies = {'total_steps', 'total_epochs', 'batch_size'} & sweep.grid.keys()
  unknown = any(not e.known for e in expected)
  return 'up to ' if varies and unknown and not sweep.debug else ''


def _length(config: Config) -> str:
  if config.total_steps:
    return f'{config.total_steps:,}'
  return f'{config.total_epochs:g} epochs'


def _state(expected: ExpectedCell, directory: SweepDirectory) -> str:
  if not expected.known:
    return 'waits'
  cell, results = expected.cell, directory.results
  result = results.get(cell)
  if result is not None:
    return 'diverged' if result.diverged else 'finished'
  folder = results.folder(cell)
  if folder.exists() and is_locked(folder):
    return 'running'
  if results.error(cell) is not None:
    return 'failed'
  return 'begun' if results.begun(cell) else 'to do'


def _plan_totals(expected: list[ExpectedCell], pace: Pace, sweep: SweepDefinition,
                 results: CellResults) -> list[str]:
  todo = [e.cell for e in expected if results.get(e.cell) is None]
  lines = [f'cells   {len(expected)}, of which {len(expected) - len(todo)} are '
           f'finished and {len(todo)} are left']
  if not todo:
    return lines
  upper = _upper_bound(expected, sweep)
  if all(cell.config.total_steps for cell in todo):
    images = sum(cell.config.total_steps * cell.config.batch_size for cell in todo)
    work = sum(cell.config.total_steps * cell.config.batch_size
               * _training_flops(cell.config) for cell in todo)
    lines.append(f'left    {upper}{sum(c.config.total_steps for c in todo):,} steps, '
                 f'{images:,} images, {work:.2e} FLOPs of training')
  else:
    lines.append('left    lengths in epochs: the steps depend on the data')
  seconds = pace.total(todo)
  if seconds is None:
    lines.append('time    unknown until a first cell has finished here')
  else:
    lines.append(f'time    {upper}{duration(seconds)} on one worker, from the seconds '
                 'per step of the finished cells')
  return lines


def _training_flops(config: Config) -> float:
  """Of one image: forward, and twice that backward."""
  # The head's classes are up to the data: without.
  model = variants.from_section(config.model, 1, 'cpu')
  return 3 * model.flops(config.data.image_size)


def first_lines(sweep: SweepDefinition, directory: SweepDirectory,
            shard: tuple[int, int]) -> str:
  """The first lines of a worker."""
  expected = schedule.expected_cells(sweep, directory.results)
  done = sum(directory.results.get(e.cell) is not None for e in expected)
  points, tasks = len(sweep.points()), len(sweep.asked)
  share = '' if shard[1] == 1 else f'; this is worker {shard[0]} of {shard[1]}'
  return (f'sweep  {tasks} task(s) x {points} point(s), {sweep.seeds} '
          f'seed(s) of the reported runs: {len(expected)} cells, {done} of them '
          f'finished{share}\nlogs   {directory.path / "logs"}')


def cell_heading(cell: Cell, sweep: SweepDefinition, results: CellResults, failed: int,
                 resumed: bool) -> str:
  """The line before a cell; `failed` of those before it have no result."""
  expected = schedule.expected_cells(sweep, results)
  done = sum(results.get(e.cell) is not None for e in expected) + failed
  going_on = ', going on from its checkpoint' if resumed else ''
  return f'cell {done + 1}/{len(expected)}  {cell.title}{going_on}'


def brief(summary: Summary) -> str:
  """The numbers of a report in a few lines."""
  metric = summary.sweep.report
  width = max(len(s.task.name) for s in summary.selections)
  lines = [f'{s.task.name:{width}}  {metric_text(metric, s.median):>7}  '
           f'{choice_text(s)}' for s in summary.selections]
  for mean in [*summary.groups, summary.overall]:
    if mean.value is not None and mean.total > 1:
      lines.append(f'mean of {mean.name}: {metric_text(metric, mean.value)} over '
                   f'{mean.complete} of {mean.total} tasks'
                   f'{" (partial)" if mean.partial else ""}')
  return '\n'.join(
      [f'{metric}{" in percent" if in_percent(metric) else ""}, median over '
       f'{summary.sweep.seeds} seed(s); {summary.finished} of {summary.total} '
       'cells are finished', *lines])
