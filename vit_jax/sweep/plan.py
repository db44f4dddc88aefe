"""What a sweep would run, how long, and what of it is done; starts nothing."""

from vit_jax.models import variants
from vit_jax.sweep import locks, shares, timing
from vit_jax.sweep.cells import Cell, shown
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.folder import Folder
from vit_jax.training.progress import duration


def describe(definition: Definition, folder: Folder, shard=(0, 1)) -> str:
  """A table of a worker's cells, their totals and an estimate of the time.

  Cells that any worker may take are among them.
  """
  results = folder.results
  worker = shares.deal(definition, shard[1])
  rows = [row for row in timing.expected_cells(definition, results)
          if worker(row[0]) in (shard[0], None)]
  if not rows:
    return (f'Worker {shard[0]} of {shard[1]} has nothing to do: there are fewer cells '
            'than workers.')
  pace = timing.Pace([cell for cell, _ in rows], results)
  table = [('task', 'stage', 'settings', 'seed', 'steps', 'images', 'time', 'state')]
  for row in rows:
    cell, known = row
    seconds = pace.seconds(cell)
    config = cell.config
    steps = config.total_steps
    table.append((
        cell.task, cell.stage,
        shown(cell.settings) or '-' if known else 'the winner of the search',
        str(cell.seed), _upper([row], definition) + _length(config),
        f'{steps * config.batch_size:,}' if steps else '-',
        '-' if seconds is None else duration(seconds), _state(cell, known, folder)))
  widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in table]
  return '\n'.join([*lines, '', *_totals(rows, pace, definition, results)])


def _upper(rows, definition):
  # A winner is counted with the longest runs of the grid.
  varies = {'total_steps', 'total_epochs', 'batch_size'} & definition.grid.keys()
  unknown = any(not known for _, known in rows)
  return 'up to ' if varies and unknown and not definition.debug else ''


def _length(config):
  if config.total_steps:
    return f'{config.total_steps:,}'
  return f'{config.total_epochs:g} epochs'


def _state(cell: Cell, known: bool, folder: Folder):
  results = folder.results
  if not known:
    return 'waits'
  result = results.get(cell)
  if result is not None:
    return 'diverged' if result.diverged else 'finished'
  if results.folder(cell).exists() and _running(results.folder(cell)):
    return 'running'
  if results.error(cell) is not None:
    return 'failed'
  return 'begun' if results.begun(cell) else 'to do'


def _running(path):
  try:
    with locks.hold(path):
      return False
  except locks.Taken:
    return True


def _totals(rows, pace, definition, results):
  todo = [cell for cell, _ in rows if results.get(cell) is None]
  lines = [f'cells   {len(rows)}, of which {len(rows) - len(todo)} are finished and '
           f'{len(todo)} are left']
  if not todo:
    return lines
  upper = _upper(rows, definition)
  if all(cell.config.total_steps for cell in todo):
    images = sum(cell.config.total_steps * cell.config.batch_size for cell in todo)
    work = sum(cell.config.total_steps * cell.config.batch_size * _flops(cell.config)
               for cell in todo)
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


def _flops(config):
  # Forward, and twice that backward. The head's classes are up to the data: without.
  model = variants.from_section(config.model, 1, 'cpu')
  return 3 * model.flops(config.data.image_size)
