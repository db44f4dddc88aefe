"""Global batches: which rows a process reads, and how they become one array."""

import jax
import numpy as np


def rows_of_process(sharding, batch_size: int) -> np.ndarray:
  """Row numbers of the global batch that this process's devices hold, sorted.

  Following the sharding instead of the process number gives the same global
  batch, row by row, for any number of hosts and any device order.
  """
  index_map = sharding.addressable_devices_indices_map((batch_size,))
  rows = [np.arange(batch_size)[index[0]] for index in index_map.values()]
  return np.unique(np.concatenate(rows))


def to_global(local: dict, rows: np.ndarray, sharding, batch_size: int) -> dict:
  """Global `jax.Array`s from this process's rows of every array in `local`."""
  def assemble(x):
    def shard(index):
      start, stop, _ = index[0].indices(batch_size)
      at = np.searchsorted(rows, start)
      return x[at:at + stop - start]
    return jax.make_array_from_callback((batch_size, *x.shape[1:]), sharding, shard)
  return {name: assemble(x) for name, x in local.items()}
