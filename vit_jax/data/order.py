"""Which example stands at which position of a run.

Position p = step * batch_size + row lies in epoch p // N and is that epoch's
example permutation[p % N]. So a batch is a pure function of (seed, step): resuming
needs no saved state, hosts agree without talking, an epoch holds every example
once, and batches straddle epochs.
"""

import concurrent.futures as futures
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Shorter permutations take less than a step.
_SLOW = 100_000


class Order(Protocol):
  """Which examples stand where."""

  def indices(self, positions: npt.ArrayLike) -> np.ndarray:
    """The examples at these positions (any shape) of the run; from any thread."""
    ...

  def ahead(self, step: int, batch_size: int, rows: np.ndarray
            ) -> tuple[tuple[int, int], ...]:
    """Ranges of neighbouring examples [first, stop) to read by this step, or soon.

    They stay the same object for several steps.
    """
    ...


class GlobalOrder:
  """The seeded permutation of all N examples in each epoch."""

  def __init__(self, num_examples: int, seed: int) -> None:
    self._n, self._seed = num_examples, int(seed)
    self._lock = threading.Lock()
    # Epoch -> its permutation, of this epoch and the next one.
    self._epochs: dict[int, futures.Future[np.ndarray]] = {}

  def indices(self, positions: npt.ArrayLike) -> np.ndarray:
    """See `Order`."""
    epochs, offsets = np.divmod(np.asarray(positions, np.int64), self._n)
    result = np.empty_like(offsets)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      result[here] = self._of_epoch(int(epoch))[offsets[here]]
    return result

  def ahead(self, step: int, batch_size: int, rows: np.ndarray
            ) -> tuple[tuple[int, int], ...]:
    """See `Order`; no two examples are neighbours."""
    return ()

  def _of_epoch(self, epoch: int) -> np.ndarray:
    with self._lock:
      # Sorting 14 M keys takes seconds, in which the devices would wait.
      self._epochs = {e: self._epochs.get(e) or self._begin(e)
                      for e in (epoch, epoch + 1)}
      found = self._epochs[epoch]
    return found.result()

  def _begin(self, epoch: int) -> futures.Future[np.ndarray]:
    future: futures.Future[np.ndarray] = futures.Future()
    def run() -> None:
      try:
        future.set_result(permutation(self._n, self._seed, epoch))
      except BaseException as e:
        future.set_exception(e)
    if self._n < _SLOW:
      run()
    else:
      # A daemon: nobody waits for it when the program ends.
      threading.Thread(target=run, name='vit_jax order', daemon=True).start()
    return future


def permutation(n: int, seed: int, epoch: int, stream: tuple[int, int] = (0, 0)
                ) -> np.ndarray:
  """A permutation of range(n) that depends on the other arguments alone.

  NumPy promises the raw stream of a bit generator for all its versions, but not
  the result of `Generator.permutation`; a resumed run may have a newer NumPy.

  Args:
    n: its length.
    seed: of the run.
    epoch: of the run.
    stream: tells permutations of one epoch apart.
  """
  key = np.array([seed % 2**64, epoch], np.uint64)
  # The lower half of the counter counts numbers, the upper half is free.
  counter = np.array([0, 0, *stream], np.uint64)
  keys = np.random.Philox(key=key, counter=counter).random_raw(n)
  return np.argsort(keys, kind='stable')


def eval_indices(batch: int, batch_size: int, rows: npt.ArrayLike,
                 num_examples: int) -> np.ndarray:
  """Examples of one evaluation batch, in file order; -1 is padding."""
  indices = batch * batch_size + np.asarray(rows, np.int64)
  return np.where(indices < num_examples, indices, -1)


def num_eval_batches(num_examples: int, batch_size: int) -> int:
  """The same on all hosts, which run a collective computation per batch."""
  return -(-num_examples // batch_size)
