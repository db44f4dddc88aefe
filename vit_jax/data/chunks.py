"""Chunks of records: what is asked for, and the interface of what decodes it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Which records to decode; -1 is a blank place."""
  records: np.ndarray
  # Per record: (seed of the run, position in the run), the seed of its crop.
  seeds: np.ndarray
  # Ranges of neighbouring records to have at hand, see `order.Order.ahead`.
  ahead: tuple[tuple[int, int], ...] = ()


# n -> the n-th chunk; always the same for the same n, and all of one length.
ChunkAt = Callable[[int], Chunk]
# (images, labels, filled) of a chunk; places where `filled` is False are blank.
Decoded = tuple[np.ndarray, np.ndarray, np.ndarray]


class ChunkReader(Protocol):
  """See `cached.CachedChunks` and `streaming.Stream`."""

  def chunks(self, chunk_at: ChunkAt, start: int,
             stop: int | None = None) -> Iterator[Decoded]:
    """What chunk_at(start), chunk_at(start + 1), ... decode to.

    Args:
      chunk_at: which records to decode.
      start: the first chunk.
      stop: one past the last chunk; None: for ever.
    """
    ...
