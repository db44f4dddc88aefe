"""One worker of a sweep: takes a cell, trains it, notes the result, takes the next.

With several processes (a slice that trains every cell together) the first decides
and tells the others, which do nothing but train.
"""

import contextlib
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from typing import Any

import jax

from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import Stopped
from vit_jax.sweep import cells, console, report, schedule, selection
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import (
  CellResult,
  CellResults,
  LockedError,
  SweepDirectory,
  hold_lock,
)
from vit_jax.sweep.summary import Summary
from vit_jax.training import loop, overview
from vit_jax.training import metrics as metrics_lib
from vit_jax.training.progress import duration
from vit_jax.training.reuse import Reuse


def run(sweep: SweepDefinition, directory: SweepDirectory,
        shard: tuple[int, int] = (0, 1), keep_checkpoints: str = 'final') -> None:
  """Runs what is unfinished of a worker's share, then writes the report.

  Args:
    sweep: its definition, checked.
    directory: where it lives; taken if new.
    shard: (i, n), see `schedule`.
    keep_checkpoints: whose stay, see `loading.KEEP_CHECKPOINTS`.

  Raises:
    UserError: at the end, if cells failed; the others have been run.
    Stopped: after a signal; the cell that was running has been saved.
  """
  sweep = directory.claim(sweep)
  worker = _Worker(sweep, directory, shard, keep_checkpoints)
  worker.run()
  summary = None
  if hosts.is_main():
    # Of workers that end together none replaces a report by an older one.
    with hold_lock(directory.path, wait=True):
      summary = report.write(directory)
  # Before the first process may raise: the others would be ended by that.
  hosts.barrier('sweep-end')
  if summary:
    worker.conclude(summary)


class _Worker:
  """What one worker knows beside the files."""

  def __init__(self, sweep: SweepDefinition, directory: SweepDirectory,
               shard: tuple[int, int], keep_checkpoints: str) -> None:
    self._sweep, self._directory = sweep, directory
    self._results = directory.results
    self._shard, self._keep = shard, keep_checkpoints
    self._reuse = Reuse()
    self._lock = contextlib.ExitStack()
    # Cell id -> message: what failed here, and what other workers hold.
    self._failed: dict[str, str] = {}
    self._locked: dict[str, str] = {}

  def run(self) -> None:
    if hosts.is_main():
      # Also what a process that was killed between result and removal has left.
      for expected in schedule.expected_cells(self._sweep, self._results):
        if expected.known and self._results.get(expected.cell) is not None:
          remove_checkpoints(expected.cell, self._sweep, self._results, self._keep)
      _say(console.first_lines(self._sweep, self._directory, self._shard))
    while (cell := self._next()) is not None:
      with self._lock:
        self._train(cell)

  def _next(self) -> Cell | None:
    """The next cell, the same on every process; the first holds its lock."""
    chosen: dict[str, Any] = {}
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
    task = self._sweep.tasks[chosen.pop('task')]
    return cells.make(self._sweep, task, **chosen)

  def _take(self) -> Cell | None:
    """The first candidate that nobody has finished or holds, now locked by us."""
    for cell in schedule.candidates(self._sweep, self._results, self._shard):
      if cell.id in self._failed or self._results.get(cell) is not None:
        continue
      lock = contextlib.ExitStack()
      try:
        lock.enter_context(hold_lock(self._results.folder(cell)))
      except LockedError as e:
        self._locked[cell.id] = f'{cell.title}: {e}'
        continue
      self._locked.pop(cell.id, None)
      if self._results.get(cell) is not None:  # Finished since we looked.
        lock.close()
        continue
      self._lock = lock
      return cell
    return None

  def _train(self, cell: Cell) -> None:
    resumed = self._results.begun(cell)
    if hosts.is_main():
      # First: a folder with files of ours alone is no work directory to `train`.
      self._results.clear_error(cell)
      _say(console.cell_heading(
          cell, self._sweep, self._results, len(self._failed), resumed))
    began = time.monotonic()
    measured, diverged = {}, ''
    try:
      with self._log(cell):
        measured = loop.train(
            cell.config, str(self._results.folder(cell)), self._reuse)
      self._check_measured(cell, measured)
    except Stopped as e:
      _say(f'  stopped at step {e.step} of {e.total_steps} by {e.reason}; run the same '
           'command to go on')
      raise
    except metrics_lib.NonFiniteError as e:
      diverged = str(e)
    except Exception as e:
      # Of several processes perhaps only this one has failed: going on would leave
      # the others waiting. A UserError is raised by all.
      if jax.process_count() > 1 and not isinstance(e, UserError):
        raise
      self._note_failure(cell, e)
      return
    hosts.barrier('cell')
    if hosts.is_main():
      self._note_result(cell, measured, diverged, time.monotonic() - began, resumed)

  @contextlib.contextmanager
  def _log(self, cell: Cell) -> Iterator[None]:
    # Twelve runs' progress on one screen would hide that of the sweep.
    path = self._directory.log(cell) if hosts.is_main() else os.devnull
    with open(path, 'a', encoding='utf-8') as file, contextlib.redirect_stdout(file):
      yield

  def _check_measured(self, cell: Cell, measured: dict[str, float]) -> None:
    needed = (self._sweep.select if cell.stage == cells.SEARCH else self._sweep.report)
    if needed not in measured:
      raise UserError(
          f'The run measured {", ".join(measured) or "nothing"}, but the sweep needs '
          f"{needed}. Change 'select' or 'report' of get_sweep(), or have it measured.")

  def _note_result(self, cell: Cell, measured: dict[str, float], diverged: str,
                   seconds: float, resumed: bool) -> None:
    rows = metrics_lib.read(self._results.folder(cell))
    self._results.add(cell, CellResult(
        cell.id, cell.task, cell.stage, cell.settings, cell.seed, measured,
        rows[-1]['step'] if rows else 0, round(seconds, 3), resumed, diverged,
        self._results.versions(cell)))
    remove_checkpoints(cell, self._sweep, self._results, self._keep)
    text = 'diverged' if diverged else overview.values(measured)
    # How the rest will be shared among several workers is not known.
    left = None if self._shard[1] > 1 else schedule.seconds_left(
        self._sweep, self._results, self._failed)
    more = '' if left is None else f', about {duration(left)} left'
    _say(f'  {text}  in {duration(seconds)}{more}')

  def _note_failure(self, cell: Cell, error: Exception) -> None:
    if not hosts.is_main():
      return
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    first = (str(error).splitlines() or [''])[0]
    self._failed[cell.id] = f'{cell.title}: {kind}{first}'
    trace = ''.join(traceback.format_exception(error))
    with open(self._directory.log(cell), 'a', encoding='utf-8') as file:
      file.write(trace)
    self._results.write_error(cell, {
        'type': type(error).__name__, 'message': str(error),
        'traceback': trace})
    _say(f'  failed: {kind}{first}')

  def conclude(self, summary: Summary) -> None:
    """Tells how it ended; raises UserError if numbers are missing for good."""
    expected = schedule.expected_cells(self._sweep, self._results)
    _say(f'\n{console.brief(summary)}\nreport  {self._directory.path / report.HTML}, '
         f'{report.MARKDOWN}, {report.CSV}, {report.JSON}')
    unfinished = {e.cell.id for e in expected if self._results.get(e.cell) is None}
    locked = [text for id_, text in self._locked.items() if id_ in unfinished]
    if locked:
      _say('Run by other workers at this moment, and left to them:\n'
           + '\n'.join(f'  {text}' for text in locked))
    problems = [*self._failed.values(),
                *selection.diverged_for_good(self._sweep, self._results)]
    if problems:
      raise UserError(
          f'{len(problems)} of {len(expected)} cells gave no number:\n'
          + '\n'.join(f'  {text}' for text in problems) +
          f'\nWhat they printed is in {self._directory.path / "logs"}, errors also in '
          'error.json of their folders. The same command runs failed ones again.')


def remove_checkpoints(cell: Cell, sweep: SweepDefinition, results: CellResults,
                       keep: str) -> None:
  """Removes the checkpoints that `keep` gives up, now that `cell` has its result.

  Each takes several times the size of the model; a sweep over 19 tasks makes a hundred.
  """
  given_up: list[Cell] = []
  if keep == 'none' or (keep == 'final' and cell.stage == cells.SEARCH):
    given_up = [cell]
  elif keep == 'final' and cell.stage == cells.ONLY:
    # Until all points are finished, any of them may turn out to be reported.
    selected = selection.select(sweep, sweep.tasks[cell.task], results)
    if selected.decided:
      given_up = [other for point in selected.points for other in point.cells
                  if other not in selected.finals]
  for other in given_up:
    # Another worker may be doing the same.
    shutil.rmtree(results.checkpoints(other), ignore_errors=True)


def _say(text: str) -> None:
  if hosts.is_main():
    print(text, flush=True)
