"""What a person sees during a run: one live line, or plain lines in a log."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from vit_jax.runtime.live_line import LiveLine


class Progress:
  """Progress of a run of `total_steps` steps.

  On a terminal one line is rewritten in place; elsewhere every log interval
  gives one plain line. A silent one is for all processes but the first.
  """

  # Seconds between two refreshes of the live line.
  _REFRESH = 0.25

  def __init__(self, total_steps: int, batch_size: int, shown: Mapping[str, str], *,
               silent: bool = False, stream: TextIO | None = None) -> None:
    """`shown`: the metrics of a step that are shown, with their formats."""
    self._shown = shown
    self._stream = stream or sys.stdout
    self._silent = silent
    self._live = LiveLine(self._stream, shown=not silent)
    self._total = total_steps
    self._batch_size = batch_size
    self._text = ''
    self._drawn_at = 0.0
    self._rate = Rate()

  def say(self, text: str) -> None:
    """A line that stays."""
    if self._silent:
      return
    self._live.erase()
    print(text, file=self._stream, flush=True)

  def pause(self) -> None:
    """Until `resume`, time does not count as training time."""
    self._rate.pause()

  def resume(self) -> None:
    self._rate.resume()

  def step(self, step: int) -> None:
    self._rate.step()
    if self._live.shown and time.monotonic() - self._drawn_at > self._REFRESH:
      self._draw(step)

  def log(self, step: int, values: Mapping[str, float]) -> float:
    """Shows the averages of a log interval; returns its images per second."""
    images_per_second = self._rate.restart() * self._batch_size
    left = (self._total - step) * self._batch_size / max(images_per_second, 1e-9)
    metrics = [f'{name} {values[name]:{form}}' for name, form in self._shown.items()]
    self._text = '  '.join((
        f'{images_per_second:,.0f} images/s', *metrics, f'{duration(left)} left'))
    if self._live.shown:
      self._draw(step)
    else:
      self.say(self._line(step))
    return images_per_second

  def _line(self, step: int) -> str:
    width = len(str(self._total))
    return f'step {step:{width}}/{self._total}  {self._text}'

  def _draw(self, step: int) -> None:
    self._drawn_at = time.monotonic()
    self._live.draw(self._line(step))


class Rate:
  """Steps per second, not counting pauses."""

  def __init__(self) -> None:
    self._steps = 0
    self._seconds = 0.0
    self._since = time.monotonic()

  def step(self) -> None:
    self._steps += 1

  def pause(self) -> None:
    self._seconds += time.monotonic() - self._since

  def resume(self) -> None:
    self._since = time.monotonic()

  def restart(self) -> float:
    """The rate since the last restart, which begins a new interval."""
    now = time.monotonic()
    seconds = self._seconds + now - self._since
    rate = self._steps / max(seconds, 1e-9)
    self._steps, self._seconds, self._since = 0, 0.0, now
    return rate


def duration(seconds: float) -> str:
  """'0:05', '12:34' or '1:02:03'."""
  minutes, seconds = divmod(int(seconds + 0.5), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
