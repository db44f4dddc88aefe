"""One worker of a sweep: takes a cell, trains it, notes the result, takes the next.

With several processes (a slice that trains every cell together) the first decides
and tells the others, which do nothing but train.
"""

import contextlib
import os
import time
import traceback

import jax

from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import Stopped
from vit_jax.sweep import cells as cells_lib
from vit_jax.sweep import locks, pruning, report, shares, standings, timing
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.folder import Folder
from vit_jax.sweep.results import Result, versions
from vit_jax.training import loop as training
from vit_jax.training import metrics as metrics_lib
from vit_jax.training import overview
from vit_jax.training.progress import duration
from vit_jax.training.reuse import Reuse


def run(definition: Definition, folder: Folder, shard=(0, 1), keep='final'):
  """Runs what is unfinished of a worker's share, then writes the report.

  Args:
    definition: the checked sweep.
    folder: where it lives; taken if new.
    shard: (i, n), see `shares`.
    keep: whose checkpoints stay, see `pruning`.

  Raises:
    UserError: at the end, if cells failed; the others have been run.
    Stopped: after a signal; the cell that was running has been saved.
  """
  definition = folder.claim(definition)
  worker = _Worker(definition, folder, shard, keep)
  worker.run()
  numbers = report.write(folder) if hosts.is_main() else None
  # Before the first process may raise: the others would be ended by that.
  hosts.barrier('sweep-end')
  if numbers:
    worker.conclude(numbers)


class _Worker:
  """What one worker knows beside the files."""

  def __init__(self, definition, folder, shard, keep):
    self._definition, self._folder = definition, folder
    self._results = folder.results
    self._shard, self._keep = shard, keep
    self._reuse = Reuse()
    self._lock = contextlib.ExitStack()
    # Cell id -> message: what failed here, and what other workers hold.
    self._failed, self._taken = {}, {}

  def run(self):
    if hosts.is_main():
      pruning.prune_all(self._definition, self._results, self._keep)
      self._say(self._opening())
    while (cell := self._next()) is not None:
      with self._lock:
        self._train(cell)

  def _next(self) -> Cell | None:
    """The next cell, the same on every process; the first holds its lock."""
    chosen = {}
    if hosts.is_main():
      try:
        cell = self._take()
        chosen = {} if cell is None else {
            'task': cell.task, 'stage': cell.stage, 'settings': cell.settings,
            'seed': cell.seed}
      except UserError as e:
        chosen = {'error': str(e)}
    chosen = hosts.broadcast(chosen)
    if 'error' in chosen:
      raise UserError(chosen['error'])
    if not chosen:
      return None
    task = self._definition.tasks[chosen.pop('task')]
    return cells_lib.make(self._definition, task, **chosen)

  def _take(self):
    for cell in shares.candidates(self._definition, self._results, self._shard):
      if cell.id in self._failed or self._results.get(cell) is not None:
        continue
      lock = contextlib.ExitStack()
      try:
        lock.enter_context(locks.hold(self._results.folder(cell)))
      except locks.Taken as e:
        self._taken[cell.id] = f'{cell.title}: {e}'
        continue
      self._taken.pop(cell.id, None)
      if self._results.get(cell) is not None:  # Finished since we looked.
        lock.close()
        continue
      self._lock = lock
      return cell
    return None

  def _train(self, cell):
    resumed = self._results.begun(cell)
    if hosts.is_main():
      # First: a folder with files of ours alone is no work directory to `train`.
      self._results.clear_error(cell)
      self._say(self._heading(cell, resumed))
    began = time.monotonic()
    measured, diverged = {}, ''
    try:
      with self._log(cell):
        measured = training.train(
            cell.config, str(self._results.folder(cell)), self._reuse)
      self._check_measured(cell, measured)
    except Stopped as e:
      self._say(f'  stopped at step {e.step} of {e.total_steps} by {e.reason}; run '
                'the same command to go on')
      raise
    except metrics_lib.NonFiniteError as e:
      diverged = str(e)
    except Exception as e:
      # Of several processes perhaps only this one has failed: going on would leave
      # the others waiting. A UserError is raised by all.
      if jax.process_count() > 1 and not isinstance(e, UserError):
        raise
      self._fail(cell, e)
      return
    hosts.barrier('cell')
    if hosts.is_main():
      self._note(cell, measured, diverged, time.monotonic() - began, resumed)

  def _check_measured(self, cell, measured):
    needed = (self._definition.select if cell.stage == cells_lib.SEARCH
              else self._definition.report)
    if needed not in measured:
      raise UserError(
          f'The run measured {", ".join(measured) or "nothing"}, but the sweep needs '
          f"{needed}. Change 'select' or 'report' of get_sweep(), or have it measured.")

  def _note(self, cell, measured, diverged, seconds, resumed):
    folder = self._results.folder(cell)
    rows = metrics_lib.read(folder)
    self._results.add(cell, Result(
        cell.id, cell.task, cell.stage, cell.settings, cell.seed, measured,
        rows[-1]['step'] if rows else 0, round(seconds, 3), resumed, diverged,
        versions(folder)))
    pruning.prune(cell, self._definition, self._results, self._keep)
    text = 'diverged' if diverged else overview.values(measured)
    left = self._seconds_left()
    more = '' if left is None else f', about {duration(left)} left'
    self._say(f'  {text}  in {duration(seconds)}{more}')

  def _fail(self, cell, error):
    if not hosts.is_main():
      return
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    first = (str(error).splitlines() or [''])[0]
    self._failed[cell.id] = f'{cell.title}: {kind}{first}'
    trace = ''.join(traceback.format_exception(error))
    with open(self._folder.log(cell), 'a', encoding='utf-8') as file:
      file.write(trace)
    self._results.write_error(cell, {
        'type': type(error).__name__, 'message': str(error),
        'traceback': trace})
    self._say(f'  failed: {kind}{first}')

  def _seconds_left(self):
    if self._shard[1] > 1:
      return None  # How the rest will be shared is not known.
    rows = [cell for cell, _ in timing.expected_cells(self._definition, self._results)]
    pace = timing.Pace(rows, self._results)
    return pace.total([cell for cell in rows if self._results.get(cell) is None
                       and cell.id not in self._failed])

  def _heading(self, cell, resumed):
    rows = timing.expected_cells(self._definition, self._results)
    done = sum(self._results.get(c) is not None for c, _ in rows) + len(self._failed)
    going_on = ', going on from its checkpoint' if resumed else ''
    return f'cell {done + 1}/{len(rows)}  {cell.title}{going_on}'

  def _opening(self):
    rows = timing.expected_cells(self._definition, self._results)
    done = sum(self._results.get(cell) is not None for cell, _ in rows)
    points, tasks = len(self._definition.points()), len(self._definition.asked)
    share = ('' if self._shard[1] == 1 else
             f'; this is worker {self._shard[0]} of {self._shard[1]}')
    return (f'sweep  {tasks} task(s) x {points} point(s), {self._definition.seeds} '
            f'seed(s) of the reported runs: {len(rows)} cells, {done} of them '
            f'finished{share}\nlogs   {self._folder.path / "logs"}')

  @contextlib.contextmanager
  def _log(self, cell):
    # Twelve runs' progress on one screen would hide that of the sweep.
    path = self._folder.log(cell) if hosts.is_main() else os.devnull
    with open(path, 'a', encoding='utf-8') as file, contextlib.redirect_stdout(file):
      yield

  def conclude(self, numbers):
    """Tells how it ended; raises UserError if numbers are missing for good."""
    rows = timing.expected_cells(self._definition, self._results)
    self._say(f'\n{report.brief(numbers)}\nreport  '
              f'{self._folder.path / report.HTML}, {report.MARKDOWN}, {report.CSV}, '
              f'{report.JSON}')
    unfinished = {cell.id for cell, _ in rows if self._results.get(cell) is None}
    taken = [text for id_, text in self._taken.items() if id_ in unfinished]
    if taken:
      self._say('Run by other workers at this moment, and left to them:\n'
                + '\n'.join(f'  {text}' for text in taken))
    problems = [*self._failed.values(),
                *standings.without_number(self._definition, self._results)]
    if problems:
      raise UserError(
          f'{len(problems)} of {len(rows)} cells gave no number:\n'
          + '\n'.join(f'  {text}' for text in problems) +
          f'\nWhat they printed is in {self._folder.path / "logs"}, errors also in '
          'error.json of their folders. The same command runs failed ones again.')

  @staticmethod
  def _say(text):
    if hosts.is_main():
      print(text, flush=True)
