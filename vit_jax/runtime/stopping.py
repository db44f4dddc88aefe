"""Requests to stop: SIGTERM from a cluster, SIGINT from the keyboard."""

import contextlib
import os
import signal

# EX_TEMPFAIL of sysexits.h: nothing is wrong, start the same command again.
START_AGAIN = 75


class Stopped(Exception):
  """A run was asked to stop, and has saved; the same call goes on.

  Attributes:
    step, total_steps: how far it came.
    reason: 'SIGTERM', 'SIGINT' or 'preemption'.
    exit_status: for the command: 128 + SIGINT after Ctrl-C, for that is somebody's
      will, else `START_AGAIN`.
  """

  def __init__(self, step: int, total_steps: int, reason: str):
    super().__init__(f'stopped at step {step} of {total_steps} by {reason}')
    self.step, self.total_steps, self.reason = step, total_steps, reason
    interrupted = reason == 'SIGINT'
    self.exit_status = 128 + signal.SIGINT if interrupted else START_AGAIN


@contextlib.contextmanager
def restartable():
  """While entered, SIGTERM ends the process at once, with `START_AGAIN`.

  For all that a run does outside of its loop, where nothing would be saved: `train`
  replaces it by its own `StopRequest`, JAX by its preemption service.
  """
  def end(*unused):
    os.write(2, b'vit_jax: ended by SIGTERM. Run the same command to go on.\n')
    os._exit(START_AGAIN)

  try:
    previous = signal.signal(signal.SIGTERM, end)
  except ValueError:
    # Not the main thread: signals are the caller's business.
    yield
    return
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, previous)


class StopRequest:
  """While entered, turns the first signal into a request that the loop honours.

  A second one ends the process at once. `name` is the signal's name, or ''.
  """

  def __init__(self, signals=(signal.SIGTERM, signal.SIGINT)):
    self.name = ''
    self._signals = signals
    self._previous = {}

  def __enter__(self):
    try:
      for number in self._signals:
        self._previous[number] = signal.signal(number, self._handle)
    except ValueError:
      pass  # Not the main thread: signals are the caller's business.
    return self

  def __exit__(self, *unused):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _handle(self, number, unused_frame):
    self.name = signal.Signals(number).name
    signal.signal(number, self._previous[number] or signal.SIG_DFL)
