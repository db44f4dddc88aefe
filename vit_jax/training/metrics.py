"""Where measurements go: WORKDIR/metrics.jsonl and TensorBoard through CLU."""

import json
import math
import pathlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.files import write_bytes

FILE = 'metrics.jsonl'
# Bytes of a line; a row of a hundred measurements has a twentieth of it.
_LONGEST = 1 << 17


class NonFiniteError(UserError):
  """The loss or the gradient became NaN or infinite."""


def check_finite(step: int, values: Mapping[str, Any]) -> None:
  """Raises NonFiniteError if any measurement of a step is NaN or infinite."""
  if all(math.isfinite(value) for value in values.values()):
    return
  # Loss and gradient norm first: they are what one looks for.
  first = [name for name in ('loss', 'grad_norm') if name in values]
  names = first + [name for name in values if name not in first]
  shown = ', '.join(
      f'{name.replace("grad_norm", "gradient norm")} {float(values[name])}'
      for name in names)
  raise NonFiniteError(
      f'Training diverged at step {step}: {shown}. The state was not saved. Lower '
      'config.optimizer.learning_rate, raise config.schedule.warmup_steps or set '
      'config.optimizer.clip_norm, and run again in a new --workdir.')


class Window:
  """Step metrics that are still on the device, until they are looked at."""

  # Steps that may be queued on the device before the host waits for the oldest.
  _RUN_AHEAD = 2

  def __init__(self) -> None:
    self._steps: list[tuple[int, dict[str, Any]]] = []

  def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
    self._steps.append((step, metrics))
    if len(self._steps) > self._RUN_AHEAD:
      jax.block_until_ready(self._steps[-1 - self._RUN_AHEAD][1])

  def fetch(self) -> list[tuple[int, dict[str, Any]]]:
    """(step, metrics) since the last `clear`, as floats.

    Raises:
      NonFiniteError: at the first step whose loss or gradient is not finite.
    """
    self._steps = jax.device_get(self._steps)
    for step, metrics in self._steps:
      check_finite(step, metrics)
    return self._steps

  def mean(self) -> dict[str, float]:
    """The average of every metric since the last call, which empties the window."""
    steps = [metrics for _, metrics in self.fetch()]
    self._steps = []
    return {k: float(sum(m[k] for m in steps) / len(steps)) for k in steps[0]}


class Writer:
  """Writes measurements; the TensorBoard part runs in a thread of its own.

  CLU's writer imports TensorFlow, which takes seconds; in the thread that import
  delays neither the first step nor the later ones.
  """

  def __init__(self, workdir: str | pathlib.Path, resume_step: int,
               before_writing: Callable[[], None] = lambda: None) -> None:
    """Drops what came after `resume_step`.

    `before_writing` raises if somebody else may write there.
    """
    self._path = pathlib.Path(workdir) / FILE
    self._before_writing = before_writing
    self._drop_after(resume_step)
    self._file = self._path.open('a', encoding='utf-8')
    self._queue = queue.Queue()
    self._thread = threading.Thread(
        target=self._write_summaries, args=(str(workdir),), daemon=True)
    self._started = False

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends one object: `step` and the named values."""
    self._before_writing()
    self._file.write(json.dumps({'step': step, **values}, allow_nan=False) + '\n')
    self._file.flush()
    self._queue.put((step, values))
    if not self._started:
      self._started = True
      self._thread.start()

  def close(self) -> None:
    self._file.close()
    self._queue.put(None)
    if self._started:
      self._thread.join()

  def _drop_after(self, step: int) -> None:
    # Steps after the restored checkpoint are about to be measured again.
    if not self._path.exists():
      return
    rows = list(_rows(self._path))
    kept = [line.rstrip(b'\n') + b'\n' for line, row in rows
            if row and row['step'] <= step]
    if kept != [line for line, _ in rows]:
      write_bytes(self._path, b''.join(kept))

  def _write_summaries(self, logdir: str) -> None:
    try:
      from vit_jax.data import tensorflow
      tensorflow.load()
      from clu import metric_writers
      writer = metric_writers.SummaryWriter(logdir)
      while (item := self._queue.get()) is not None:
        writer.write_scalars(*item)
        if self._queue.empty():
          writer.flush()
      writer.close()
    except Exception as e:  # A log must not end a training run.
      print(f'vit_jax: TensorBoard logging stopped: {e}', file=sys.stderr)


def read(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
  """All objects of WORKDIR/metrics.jsonl; damaged lines are left out, with a warning.

  Raises:
    UserError: if the file cannot be read.
  """
  path = pathlib.Path(workdir) / FILE
  return [row for _, row in _rows(path) if row] if path.exists() else []


def _rows(path: pathlib.Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
  """(line, its object) of every line; the object is empty where there is none."""
  damaged = 0
  try:
    with path.open('rb') as file:
      while line := file.readline(_LONGEST):
        row = _row(line)
        # A process that is killed leaves the last line cut off.
        damaged += not row and line.endswith(b'\n')
        yield line, row
  except OSError as e:
    raise UserError(f'Cannot read {path}: {e.strerror}. Move it away, or mend it.'
                    ) from e
  if damaged:
    warn(f'{path} has {damaged} damaged line(s), which are left out')


def _row(line: bytes) -> dict[str, Any]:
  """The measurements in a line; {} if it holds none."""
  try:
    row = json_files.decode(line)
  except ValueError:
    return {}
  if not isinstance(row, dict) or type(row.get('step')) is not int or row['step'] < 0:
    return {}
  numbers = all(type(v) in (int, float) and math.isfinite(v) for v in row.values())
  return row if numbers else {}
