"""Supervises processes: their output line by line, their signals, their end."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import IO, NamedTuple

from launch.shell import Environment
from vit_jax.runtime.stopping import START_AGAIN

# Seconds from asking the others to stop until they are killed: after a failure they
# wait for one that is gone; after `START_AGAIN` they are about to end by themselves.
_AFTER_FAILURE = 5.0
_AFTER_SAVING = 60.0
# For the last lines of a process that has ended; one that it started may still have its
# output open.
_DRAIN_TIMEOUT = 2.0
# Lines kept of what the others said once one had failed.
_CONSEQUENCES = 10


class Command(NamedTuple):
  """What starts one process."""
  environment: Environment
  words: Sequence[str]


def _print_line(line: str) -> None:
  print(line, flush=True)


class Supervisor:
  """Starts commands and waits for them; SIGINT and SIGTERM go to all of them.

  Args:
    commands: one for every process.
    together: whether the failure of one ends all.
    write: takes one line of output.
  """

  def __init__(self, commands: Sequence[Command], together: bool = True,
               write: Callable[[str], object] = _print_line) -> None:
    self._commands = commands
    self._together = together
    self._write = write
    self._lines: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    self._processes: list[subprocess.Popen[str]] = []
    self._readers: list[threading.Thread] = []
    # Index -> exit status, in the order of their ends.
    self.statuses: dict[int, int] = {}
    # Index of the first whose status is not 0.
    self._first_failed: int | None = None
    # Whether that was a failure that ends the others.
    self._failed = False
    # Index -> what it said after the failure of another.
    self._deferred: dict[int, list[str]] = {}
    self._kill_at: float | None = None
    # Signals that came and are not passed on yet.
    self._signals: list[int] = []
    self.stop_requested = False

  def run(self) -> int:
    """The exit status: 0, or that of the first process that failed."""
    previous = {number: signal.signal(number, self._on_signal)
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      for index, command in enumerate(self._commands):
        self._start(index, command)
      while len(self.statuses) < len(self._processes):
        self._poll()
      self._drain()
      self._write_deferred()
    finally:
      for process in self._processes:
        _send(process, signal.SIGKILL)
      for number, handler in previous.items():
        signal.signal(number, handler)
    return 0 if self._first_failed is None else self.statuses[self._first_failed]

  def _start(self, index: int, command: Command) -> None:
    environment = {
        **os.environ, 'PYTHONUNBUFFERED': '1', **dict(command.environment)}
    # In sessions of their own: a terminal's Ctrl-C comes through us alone, once.
    process = subprocess.Popen(
        command.words, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding='utf-8',
        errors='replace', start_new_session=True)
    reader = threading.Thread(
        target=self._read, args=(index, process.stdout), daemon=True)
    reader.start()
    self._processes.append(process)
    self._readers.append(reader)

  def _read(self, index: int, stream: IO[str]) -> None:
    for line in stream:
      self._lines.put((index, line.rstrip('\n')))

  def _poll(self) -> None:
    """Handles what has happened since the last time; waits a little for a line."""
    try:
      self._take_line(*self._lines.get(timeout=0.05))
    except queue.Empty:
      pass
    while self._signals:
      number = self._signals.pop(0)
      for process in self._processes:
        _send(process, number)
    for index, process in enumerate(self._processes):
      if index not in self.statuses and process.poll() is not None:
        self._on_end(index, process.returncode)
    if self._kill_at and time.monotonic() > self._kill_at:
      for process in self._processes:
        _send(process, signal.SIGKILL)

  def _take_line(self, index: int, line: str) -> None:
    if self._failed and index != self._first_failed:
      self._deferred.setdefault(index, []).append(line)
    else:
      self._write(f'[{index}] {line}' if len(self._commands) > 1 else line)

  def _drain(self, index: int | None = None) -> None:
    """Takes the lines that are left, of a process that has ended or of all."""
    readers = self._readers if index is None else [self._readers[index]]
    for reader in readers:
      reader.join(_DRAIN_TIMEOUT)
    while not self._lines.empty():
      self._take_line(*self._lines.get())

  def _on_end(self, index: int, code: int) -> None:
    status = 128 - code if code < 0 else code
    self.statuses[index] = status
    if not status or self._first_failed is not None:
      return
    self._first_failed = index
    if self._together and (status == START_AGAIN or self.stop_requested):
      self._kill_at = time.monotonic() + _AFTER_SAVING
      return
    self._failed = self._together
    self._drain(index)
    if len(self._commands) > 1:
      how = f'was killed by {signal.Signals(-code).name}' if code < 0 else (
          f'ended with status {status}')
      others = '; ending the others' if self._together else ''
      self._write(f'launch: process {index} {how}{others}')
    if self._together:
      self._signals.append(signal.SIGTERM)
      self._kill_at = time.monotonic() + _AFTER_FAILURE

  def _write_deferred(self) -> None:
    for index, lines in sorted(self._deferred.items()):
      cut = f', the last {_CONSEQUENCES}' if len(lines) > _CONSEQUENCES else ''
      self._write(f'launch: after that, process {index} wrote {len(lines)} '
                  f'line(s){cut}:')
      for line in lines[-_CONSEQUENCES:]:
        self._write(f'[{index}] {line}')

  def _on_signal(self, number: int, unused_frame: FrameType | None) -> None:
    self.stop_requested = True
    self._signals.append(number)


def _send(process: subprocess.Popen[str], number: int) -> None:
  """Sends a signal to a process that may have ended."""
  if process.poll() is None:
    try:
      os.killpg(process.pid, number)
    except ProcessLookupError:
      pass
