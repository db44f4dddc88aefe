"""An order of examples in which neighbours in a file are read together.

For data on object stores, where reading a record costs as much as reading megabytes.
Runs of neighbouring records are permuted in each epoch. The rows of the global batch
are divided into lanes, and so is the permuted sequence; a lane shuffles its part within
windows of several runs. So whoever has a lane's rows reads its runs and no others, and
an epoch still holds every example once.

Everything is a function of the example's position, as in `order`; the lanes depend on
the batch size, never on the number of hosts.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vit_jax.data.order import permutation

# As many hosts can have lanes of their own.
MOST_LANES = 64
# Batches that may be read at the same time.
_BEHIND = 8
# A window is read when this part of the one before it is used up: 1 / 1.25.
_LEAD = 1.25


class Window(NamedTuple):
  """A part of one lane in one epoch, within which examples are shuffled."""
  epoch: int
  lane: int
  number: int


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the order is made of, besides the seed.

  Attributes:
    num_examples: of the split.
    batch_size: of the global batch.
    run: neighbouring examples that are read together.
    window: examples of a window.
  """
  num_examples: int
  batch_size: int
  run: int
  window: int

  @property
  def lanes(self) -> int:
    """The largest divisor of the batch size that is no more than MOST_LANES."""
    return max(d for d in range(1, MOST_LANES + 1) if self.batch_size % d == 0)

  @property
  def rows(self) -> int:
    """Rows of the batch that a lane has."""
    return self.batch_size // self.lanes

  def count(self, lane: npt.ArrayLike, position: npt.ArrayLike) -> np.ndarray:
    """How many positions of a lane come before a position of the run."""
    batches, row = np.divmod(np.asarray(position, np.int64), self.batch_size)
    first = np.asarray(lane, np.int64) * self.rows
    return batches * self.rows + np.clip(row - first, 0, self.rows)

  def phase(self, lane: npt.ArrayLike) -> np.ndarray:
    """How much shorter the first window is: lanes begin new ones at other times."""
    return np.asarray(lane, np.int64) * self.window // self.lanes


class RunOrder:
  """The seeded order of runs and windows over all epochs; see `order.Order`."""

  def __init__(self, layout: Layout, seed: int) -> None:
    self.layout, self._seed = layout, int(seed)
    # Of the latest epochs and windows, whoever asks for them.
    self._runs = functools.lru_cache(3)(self._permuted_runs)
    self._shuffled = functools.lru_cache(4 * layout.lanes)(self._permuted_window)
    self._parts = functools.lru_cache(6 * layout.lanes)(self.ranges)
    self._ahead = functools.lru_cache(3)(self._ranges_ahead)

  def indices(self, positions: npt.ArrayLike) -> np.ndarray:
    """See `order.Order`."""
    positions = np.asarray(positions, np.int64)
    flat = positions.ravel()
    epochs, lanes, numbers, places = self._locate(flat)
    result = np.empty_like(flat)
    # Positions of one window stand together when sorted.
    by_window = np.lexsort((numbers, lanes, epochs))
    triples = np.stack([epochs, lanes, numbers], 1)[by_window]
    changes = np.flatnonzero((triples[1:] != triples[:-1]).any(1)) + 1
    for part in np.split(by_window, changes):
      if len(part):
        at = part[0]
        window = Window(int(epochs[at]), int(lanes[at]), int(numbers[at]))
        result[part] = self._shuffled(window)[places[part]]
    return result.reshape(positions.shape)

  def ahead(self, step: int, batch_size: int, rows: np.ndarray
            ) -> tuple[tuple[int, int], ...]:
    """See `order.Order`: the windows of these rows' lanes, and the next ones."""
    if batch_size != self.layout.batch_size:
      raise ValueError(f'made for batches of {self.layout.batch_size}')
    lanes = tuple(np.unique(rows // self.layout.rows).tolist())
    # It takes a millisecond, so not at every step.
    steps = max(1, self.layout.window // (8 * self.layout.rows))
    return self._ahead(step // steps * steps, steps, lanes)

  def _ranges_ahead(self, step: int, steps: int, lanes: tuple[int, ...]
                    ) -> tuple[tuple[int, int], ...]:
    size = self.layout.batch_size
    # Batches shortly before may still be being read.
    first = max(0, step - _BEHIND)
    stop = (step + steps) * size
    found: list[tuple[int, tuple[int, int]]] = []
    for lane in lanes:
      *windows, later = self.windows(first * size, stop, [lane])
      for window in windows:
        start = self._start(window)
        found += [(start, part) for part in self._parts(window)]
      # Of the window after them as much as fits the progress of the one before it: so
      # requests are spread, and less is held.
      begin, end = self._start(windows[-1]), self._start(later)
      parts = self._parts(later)
      share = min(1.0, _LEAD * (stop - begin) / (end - begin))
      found += [(end, part) for part in parts[:math.ceil(share * len(parts))]]
    # What is needed first comes first.
    return tuple(part for _, part in sorted(found, key=lambda pair: pair[0]))

  def windows(self, position: int, stop: int, lanes: npt.ArrayLike) -> list[Window]:
    """What positions up to `stop` need, and of each lane one window more.

    Args:
      position: the first.
      stop: one past the last.
      lanes: whose positions alone count.
    """
    found = []
    for lane in np.asarray(lanes).tolist():
      window = self._window_at(lane, position)
      found.append(window)
      while self._start(window) < stop:
        window = self._following(window)
        found.append(window)
    return found

  def ranges(self, window: Window) -> list[tuple[int, int]]:
    """The examples of a window, as ranges [first, stop) of neighbours."""
    start, stop = self._sequence(window)
    first = self._examples(window.epoch, np.arange(start, stop))
    ends = np.flatnonzero(np.diff(first) != 1) + 1
    parts = np.split(first, ends)
    # Two runs that happen to follow each other in the file are read apart.
    return [(int(a), int(min(a + self.layout.run, part[-1] + 1)))
            for part in parts if len(part)
            for a in range(int(part[0]), int(part[-1]) + 1, self.layout.run)]

  def _locate(self, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """(epochs, lanes, numbers of windows, places in the windows)."""
    layout = self.layout
    epochs = positions // layout.num_examples
    lanes = positions % layout.batch_size // layout.rows
    in_lane = layout.count(lanes, positions) - layout.count(
        lanes, epochs * layout.num_examples)
    numbers, places = np.divmod(in_lane + layout.phase(lanes), layout.window)
    # The first window begins in its middle.
    return epochs, lanes, numbers, np.where(
        numbers == 0, places - layout.phase(lanes), places)

  def _sequence(self, window: Window) -> tuple[int, int]:
    """The part of the epoch's permuted sequence that a window holds."""
    layout, (epoch, lane, number) = self.layout, window
    lanes, begin = np.arange(layout.lanes), epoch * layout.num_examples
    lengths = layout.count(lanes, begin + layout.num_examples) - layout.count(
        lanes, begin)
    base, phase = int(lengths[:lane].sum()), int(layout.phase(lane))
    start = max(0, number * layout.window - phase)
    stop = min(int(lengths[lane]), (number + 1) * layout.window - phase)
    return base + start, base + max(start, stop)

  def _permuted_window(self, window: Window) -> np.ndarray:
    start, stop = self._sequence(window)
    stream = window.lane + 1, window.number
    shuffled = start + permutation(stop - start, self._seed, window.epoch, stream)
    return self._examples(window.epoch, shuffled)

  def _examples(self, epoch: int, places: np.ndarray) -> np.ndarray:
    """The examples at these places of the epoch's permuted sequence."""
    layout, runs = self.layout, self._runs(epoch)
    # The last run may be shorter than the others; what comes after it moves up.
    missing = len(runs) * layout.run - layout.num_examples
    if missing:
      end = (int(np.flatnonzero(runs == len(runs) - 1)[0]) + 1) * layout.run - missing
      places = np.where(places >= end, places + missing, places)
    return runs[places // layout.run] * layout.run + places % layout.run

  def _permuted_runs(self, epoch: int) -> np.ndarray:
    layout = self.layout
    return permutation(-(-layout.num_examples // layout.run), self._seed, epoch)

  def _window_at(self, lane: int, position: int) -> Window:
    """The window of a lane's first position from `position` on."""
    layout = self.layout
    row = position % layout.batch_size
    first, last = lane * layout.rows, (lane + 1) * layout.rows
    begin = position - row
    at = begin + max(row, first) if row < last else begin + layout.batch_size + first
    epochs, lanes, numbers, _ = self._locate(np.array([at]))
    return Window(int(epochs[0]), int(lanes[0]), int(numbers[0]))

  def _following(self, window: Window) -> Window:
    """The lane's next window that holds anything."""
    while True:
      later = window._replace(number=window.number + 1)
      layout = self.layout
      end = (window.epoch + 1) * layout.num_examples
      length = int(layout.count(window.lane, end) - layout.count(
          window.lane, end - layout.num_examples))
      if later.number * layout.window - int(layout.phase(window.lane)) >= length:
        later = Window(window.epoch + 1, window.lane, 0)
      window = later
      start, stop = self._sequence(window)
      if start < stop:
        return window

  def _start(self, window: Window) -> int:
    """The position of the run at which a window begins."""
    layout = self.layout
    done = int(layout.count(window.lane, window.epoch * layout.num_examples))
    place = done + max(0, window.number * layout.window
                       - int(layout.phase(window.lane)))
    batches, row = divmod(place, layout.rows)
    return batches * layout.batch_size + window.lane * layout.rows + row
