"""One line of a terminal that is rewritten in place."""

from typing import TextIO


class LiveLine:
  """Shows nothing where the stream is no terminal."""

  def __init__(self, stream: TextIO, *, shown: bool = True) -> None:
    """`shown`: False for a line that is never to be seen."""
    self._stream = stream
    self.shown = shown and stream.isatty()

  def draw(self, text: str) -> None:
    """Replaces the line."""
    if self.shown:
      # '\x1b[K' clears what a longer line before has left.
      print(f'\r{text}\x1b[K', end='', file=self._stream, flush=True)

  def erase(self) -> None:
    self.draw('')
