"""Where measurements go: WORKDIR/metrics.jsonl and TensorBoard through CLU."""

import contextlib
import io
import json
import math
import pathlib
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import jax

from vit_jax.runtime import json_files, storage
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.storage.urls import PathLike

FILE = 'metrics.jsonl'
# In the queue: what was written so far is to be in the work directory.
_COMMIT = (-1, {})
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

  In a bucket, where files cannot grow, measurements are there after a `commit`.
  """

  def __init__(self, workdir: PathLike, resume_step: int,
               before_writing: Callable[[], None] = lambda: None) -> None:
    """Drops what came after `resume_step`.

    `before_writing` raises if somebody else may write there.
    """
    self._path = storage.join(workdir, FILE)
    self._before_writing = before_writing
    self._drop_after(resume_step)
    self._log = storage.Log(self._path)
    self._queue = queue.Queue()
    self._thread = threading.Thread(
        target=self._write_summaries, args=(workdir,), daemon=True)
    self._started = False

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends one object: `step` and the named values."""
    self._before_writing()
    self._log.append(json.dumps({'step': step, **values}, allow_nan=False) + '\n')
    self._queue.put((step, values))
    if not self._started:
      self._started = True
      self._thread.start()

  def commit(self) -> None:
    """To be called before a checkpoint, so that it has all measurements before it.

    Raises:
      StorageError: if they can't be written; they are kept for the next call.
    """
    self._before_writing()
    self._log.commit()
    self._queue.put(_COMMIT)

  def close(self) -> None:
    try:
      self.commit()
      self._log.close()
    finally:
      self._queue.put(None)
      if self._started:
        self._thread.join()

  def _drop_after(self, step: int) -> None:
    # Steps after the restored checkpoint are about to be measured again.
    rows = list(_rows(self._path))
    kept = [line.rstrip(b'\n') + b'\n' for line, row in rows
            if row and row['step'] <= step]
    if kept != [line for line, _ in rows]:
      storage.write_bytes(self._path, b''.join(kept))

  def _write_summaries(self, workdir: PathLike) -> None:
    try:
      from vit_jax.data import tensorflow
      tensorflow.load()
      from clu import metric_writers
      with _local_folder(workdir) as (folder, upload):
        writer = metric_writers.SummaryWriter(str(folder))
        while (item := self._queue.get()) is not None:
          if item is not _COMMIT:
            writer.write_scalars(*item)
          if item is _COMMIT or self._queue.empty():
            writer.flush()
          if item is _COMMIT:
            self._before_writing()
            upload()
        writer.close()
        upload()
    except Exception as e:  # A log must not end a training run.
      print(f'vit_jax: TensorBoard logging stopped: {e}', file=sys.stderr)


@contextlib.contextmanager
def _local_folder(workdir: PathLike
                  ) -> Iterator[tuple[pathlib.Path, Callable[[], None]]]:
  """A folder for files that grow, and what brings them to `workdir`.

  TensorFlow would write to a bucket by itself, but blocks for minutes without access.
  """
  if not storage.is_url(workdir):
    yield pathlib.Path(workdir), lambda: None
    return
  with tempfile.TemporaryDirectory(prefix='vit_jax_') as name:
    folder = pathlib.Path(name)

    def upload() -> None:
      for file in folder.iterdir():
        storage.write_bytes(storage.join(workdir, file.name), file.read_bytes())

    yield folder, upload


def read(workdir: PathLike) -> list[dict[str, Any]]:
  """All objects of WORKDIR/metrics.jsonl; damaged lines are left out, with a warning.

  Raises:
    UserError: if the file cannot be read.
  """
  return [row for _, row in _rows(storage.join(workdir, FILE)) if row]


def _rows(path: PathLike) -> Iterator[tuple[bytes, dict[str, Any]]]:
  """(line, its object) of every line; the object is empty where there is none.

  None if there is no such file.
  """
  damaged = 0
  try:
    with _opened(path) as file:
      while line := file.readline(_LONGEST):
        row = _row(line)
        # A process that is killed leaves the last line cut off.
        damaged += not row and line.endswith(b'\n')
        yield line, row
  except FileNotFoundError:
    return
  except OSError as e:
    raise UserError(f'Cannot read {path}: {e.strerror}. Move it away, or mend it.'
                    ) from e
  if damaged:
    warn(f'{path} has {damaged} damaged line(s), which are left out')


def _opened(path: PathLike) -> BinaryIO:
  if storage.is_url(path):
    return io.BytesIO(storage.read_bytes(path))
  return open(path, 'rb')


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
