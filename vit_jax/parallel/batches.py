"""Global batches: which rows a process reads, and how they become one array."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Sharding


def rows_of_process(sharding: Sharding, batch_size: int) -> np.ndarray:
  """Row numbers of the global batch that this process's devices hold, sorted.

  Following the sharding instead of the process number gives the same global
  batch, row by row, for any number of hosts and any device order.
  """
  index_map = sharding.addressable_devices_indices_map((batch_size,))
  rows = [np.arange(batch_size)[index[0]] for index in index_map.values() if index]
  return np.unique(np.concatenate(rows))


def to_global(local: Mapping[str, np.ndarray], rows: np.ndarray, sharding: Sharding,
              batch_size: int) -> dict[str, jax.Array]:
  """Global `jax.Array`s from this process's rows of every array in `local`."""
  def assemble(x: np.ndarray) -> jax.Array:
    def shard(index: tuple[slice, ...] | None) -> np.ndarray:
      assert index, 'None is for arrays that no process has a part of'
      start, stop, _ = index[0].indices(batch_size)
      at = np.searchsorted(rows, start)
      return x[at:at + stop - start]
    return jax.make_array_from_callback((batch_size, *x.shape[1:]), sharding, shard)
  return {name: assemble(x) for name, x in local.items()}
