"""Stopping: who asks a run for it, what it does then, and which exit status says so.

The words for it, here and wherever processes are watched or started:
  - A stop request is a SIGTERM, a Ctrl-C (SIGINT), or a preemption notice, by which JAX
    tells all processes of a run about the SIGTERM that one of them got. Which of the
    three it was is its reason. A run of one process also asks itself when it has lost
    its work directory.
  - A run stops: it finishes its step, saves, and raises `Stopped`.
  - A process ends, in whatever way; its exit status tells how. With `START_AGAIN` the
    same command goes on where it stands, which was saved. So it does with
    `LOST_PEER`, from the newest checkpoint; but what ended the other process, such as
    too little memory, may do so again. `INTERRUPTED` follows a Ctrl-C.
  - A process is lost if it ends, or hangs, without telling the others.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

# EX_TEMPFAIL of sysexits.h: nothing is wrong, start the same command again.
START_AGAIN = 75
# Another process of the run was lost, or did not come; or the work directory was.
LOST_PEER = 76
# All after which launchers start the same command again.
RETRIED = (START_AGAIN, LOST_PEER)
# As shells say it.
INTERRUPTED = 128 + signal.SIGINT
# Seconds that a process which ends at once has for its last calls.
_LAST_CALLS = 3.0
_last_calls: list[Callable[[], object]] = []


class Stopped(Exception):
  """A run was asked to stop, and has saved; the same call goes on.

  Attributes:
    step, total_steps: how far it came.
    reason: 'SIGTERM', 'SIGINT' or 'preemption'.
    exit_status: for the command: `INTERRUPTED` after Ctrl-C, for that is somebody's
      will, else `START_AGAIN`.
  """

  def __init__(self, step: int, total_steps: int, reason: str) -> None:
    super().__init__(f'stopped at step {step} of {total_steps} by {reason}')
    self.step, self.total_steps, self.reason = step, total_steps, reason
    self.exit_status = INTERRUPTED if reason == 'SIGINT' else START_AGAIN


class StopRequest:
  """While entered, turns the first signal into a request that the loop honours.

  A second one ends the process at once.

  Attributes:
    reason: the signal's name, or what `request` was given; '' if there is no request.
  """

  def __init__(self, signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    self.reason = ''
    self._signals = signals
    self._previous: Mapping[int, Any] = {}

  def __enter__(self) -> Self:
    self._previous = _replace_handlers(self._signals, self._handle)
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
               traceback: TracebackType | None) -> None:
    _restore_handlers(self._previous)

  def request(self, reason: str) -> None:
    """Asks as a signal does."""
    self.reason = self.reason or reason

  def _handle(self, number: int, unused_frame: FrameType | None) -> None:
    self.reason = signal.Signals(number).name
    signal.signal(number, self._previous[number] or signal.SIG_DFL)


@contextlib.contextmanager
def end_on_sigterm() -> Iterator[None]:
  """While entered, SIGTERM ends the process at once, with `START_AGAIN`.

  For all that a run does outside of its loop, where nothing would be saved: `train`
  replaces it by its own `StopRequest`, JAX by its preemption service.
  """
  def end(*unused: object) -> NoReturn:
    os.write(2, b'vit_jax: ended by SIGTERM. Run the same command to go on.\n')
    _make_last_calls()
    os._exit(START_AGAIN)

  previous = _replace_handlers([signal.SIGTERM], end)
  try:
    yield
  finally:
    _restore_handlers(previous)


@contextlib.contextmanager
def before_end(call: Callable[[], object]) -> Iterator[None]:
  """While entered, `call` is made if this process is ended at once by this module.

  It is made in a thread of its own, and may take a few seconds.
  """
  _last_calls.append(call)
  try:
    yield
  finally:
    _last_calls.remove(call)


def end_process(status: int) -> NoReturn:
  """Ends this process at once, whatever its other threads wait for.

  Not `sys.exit`: that would wait at JAX's barrier for a process that is gone.
  """
  try:
    _make_last_calls()
    sys.stdout.flush()
    sys.stderr.flush()
  finally:
    os._exit(status)


def _make_last_calls() -> None:
  def make() -> None:
    for call in list(_last_calls):
      with contextlib.suppress(Exception):
        call()

  if _last_calls:
    # This may be a signal's handler, in the midst of what holds a lock.
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(_LAST_CALLS)


def _replace_handlers(
    signals: Iterable[int], handler: Callable[..., object]) -> Mapping[int, Any]:
  """Signal -> its handler until now; empty outside of the main thread."""
  previous = {}
  try:
    for number in signals:
      previous[number] = signal.signal(number, handler)
  except ValueError:
    pass  # Not the main thread: signals are the caller's business.
  return previous


def _restore_handlers(previous: Mapping[int, Any]) -> None:
  for number, handler in previous.items():
    signal.signal(number, handler)
