"""Requests to stop: SIGTERM from a cluster, SIGINT from the keyboard."""

import signal


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
