"""A group of processes: their output line by line, their signals, their end."""

import os
import queue
import signal
import subprocess
import threading
import time

from vit_jax.runtime.stopping import START_AGAIN

# Seconds from asking the others to end until they are killed: after a failure they
# wait for one that is gone; after `START_AGAIN` they are about to end by themselves.
_AFTER_FAILURE = 5.0
_AFTER_SAVING = 60.0
# Lines kept of what the others said once one had failed.
_CONSEQUENCES = 10


class Group:
  """Starts commands and waits for them; SIGINT and SIGTERM go to all of them.

  Args:
    commands: (environment pairs, words) of every process.
    together: whether the failure of one ends all.
    write: takes one line of output.
  """

  def __init__(self, commands, together=True, write=None):
    self._commands = commands
    self._together = together
    self._write = write or (lambda line: print(line, flush=True))
    self._lines = queue.SimpleQueue()
    self._processes, self._readers = [], []
    self._ended = {}  # Index -> exit status, in the order of their ends.
    self._first = None  # Index of the first whose status is not 0.
    # Whether that was a failure that ends the others.
    self._failed = False
    self._held = {}
    self._kill_at = None
    # Signals that came and are not passed on yet.
    self._signals = []
    self.asked_to_stop = False

  def run(self) -> int:
    """The exit status: 0, or that of the first process that failed."""
    previous = {number: signal.signal(number, self._on_signal)
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      for index, (environment, words) in enumerate(self._commands):
        self._start(index, dict(environment), words)
      while len(self._ended) < len(self._processes):
        self._turn()
      self._drain()
      self._tell_consequences()
    finally:
      for process in self._processes:
        if process.poll() is None:
          _send(process, signal.SIGKILL)
      for number, handler in previous.items():
        signal.signal(number, handler)
    return 0 if self._first is None else self._ended[self._first]

  def _start(self, index, environment, words):
    # In sessions of their own: a terminal's Ctrl-C comes through us alone, once.
    process = subprocess.Popen(
        words, env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding='utf-8', errors='replace', start_new_session=True)
    reader = threading.Thread(
        target=self._read, args=(index, process.stdout), daemon=True)
    reader.start()
    self._processes.append(process)
    self._readers.append(reader)

  def _read(self, index, stream):
    for line in stream:
      self._lines.put((index, line.rstrip('\n')))

  def _turn(self):
    try:
      self._say(*self._lines.get(timeout=0.05))
    except queue.Empty:
      pass
    while self._signals:
      number = self._signals.pop(0)
      for process in self._processes:
        _send(process, number)
    for index, process in enumerate(self._processes):
      if index not in self._ended and process.poll() is not None:
        self._end(index, process.returncode)
    if self._kill_at and time.monotonic() > self._kill_at:
      for process in self._processes:
        _send(process, signal.SIGKILL)

  def _say(self, index, line):
    if self._failed and index != self._first:
      self._held.setdefault(index, []).append(line)
    else:
      self._write(f'[{index}] {line}' if len(self._commands) > 1 else line)

  def _drain(self, index=None):
    readers = self._readers if index is None else [self._readers[index]]
    for reader in readers:
      reader.join(timeout=2)
    while not self._lines.empty():
      self._say(*self._lines.get())

  def _end(self, index, code):
    status = 128 - code if code < 0 else code
    self._ended[index] = status
    if not status or self._first is not None:
      return
    self._first = index
    if self._together and (status == START_AGAIN or self.asked_to_stop):
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

  def _tell_consequences(self):
    for index, lines in sorted(self._held.items()):
      cut = f', the last {_CONSEQUENCES}' if len(lines) > _CONSEQUENCES else ''
      self._write(f'launch: after that, process {index} wrote {len(lines)} '
                  f'line(s){cut}:')
      for line in lines[-_CONSEQUENCES:]:
        self._write(f'[{index}] {line}')

  def _on_signal(self, number, unused_frame):
    self.asked_to_stop = True
    self._signals.append(number)


def _send(process, number):
  if process.poll() is None:
    try:
      os.killpg(process.pid, number)
    except ProcessLookupError:
      pass
