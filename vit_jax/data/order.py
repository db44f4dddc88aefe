"""Which example stands at which position of a run.

Position p = step * batch_size + row lies in epoch p // N and is that epoch's
example permutation[p % N]. So a batch is a pure function of (seed, step): resuming
needs no saved state, hosts agree without talking, an epoch holds every example
once, and batches straddle epochs.
"""

import numpy as np
import numpy.typing as npt


class Order:
  """The seeded order of N examples over all epochs."""

  def __init__(self, num_examples: int, seed: int) -> None:
    self._n = num_examples
    self._seed = int(seed)
    # (epoch, its permutation): one value, because several threads may ask.
    self._latest = -1, np.empty(0, np.int64)

  def indices(self, positions: npt.ArrayLike) -> np.ndarray:
    """The examples at these positions (any shape) of the run."""
    epochs, offsets = np.divmod(np.asarray(positions, np.int64), self._n)
    result = np.empty_like(offsets)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      result[here] = self._of_epoch(int(epoch))[offsets[here]]
    return result

  def _of_epoch(self, epoch: int) -> np.ndarray:
    latest, found = self._latest
    if epoch != latest:
      found = permutation(self._n, self._seed, epoch)
      self._latest = epoch, found
    return found


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
  """A permutation of range(n) that depends on (seed, epoch) alone.

  NumPy promises the raw stream of a bit generator for all its versions, but not
  the result of `Generator.permutation`; a resumed run may have a newer NumPy.
  """
  key = [seed % 2**64, epoch]
  keys = np.random.Philox(key=np.array(key, np.uint64)).random_raw(n)
  return np.argsort(keys, kind='stable')


def eval_indices(batch: int, batch_size: int, rows: npt.ArrayLike,
                 num_examples: int) -> np.ndarray:
  """Examples of one evaluation batch, in file order; -1 is padding."""
  indices = batch * batch_size + np.asarray(rows, np.int64)
  return np.where(indices < num_examples, indices, -1)


def num_eval_batches(num_examples: int, batch_size: int) -> int:
  """The same on all hosts, which run a collective computation per batch."""
  return -(-num_examples // batch_size)
