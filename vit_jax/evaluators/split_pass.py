"""One pass over a split: every example once, on any number of hosts."""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from vit_jax.data import Input
from vit_jax.data.reader import Reader
from vit_jax.parallel import batches as batches_lib
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.training.job import Job

# Batches that may be queued on the device before the host waits.
_RUN_AHEAD = 2


class SplitPass:
  """The evaluation batches of one split as global arrays, in file order.

  Attributes:
    input: the split.
    batch_size: over all devices.
  """

  def __init__(self, job: Job, data_input: Input, batch_size: int = 0,
               batch_key: str = '') -> None:
    """Reads nothing yet.

    Args:
      job: of the run.
      data_input: see `vit_jax.data.open_input`, opened for evaluation.
      batch_size: over all devices; 0: as the settings of the run have it.
      batch_key: the setting that `batch_size` comes from, for messages.
    """
    self.input = data_input
    self._sharding = mesh_lib.over_batch(job.mesh)
    size, key = batch_size, batch_key
    if not size:
      size, key = job.config.eval_batch_size, 'eval_batch_size'
    if not size:
      # No need for larger batches than the split, and any size will do.
      devices, examples = job.mesh.size, data_input.num_examples
      size = min(job.config.batch_size, -(-examples // devices) * devices)
    mesh_lib.check_batch(job.mesh, size, name=key)
    self.batch_size = size
    self._rows = batches_lib.rows_of_process(self._sharding, size)

  @functools.cached_property
  def _reader(self) -> Reader:
    # At the first pass: a split that is never evaluated is never read.
    return self.input.start()

  def outputs(self, step: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]],
              params: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yields `step(params, batch)` of every batch as NumPy arrays.

    The step's results must be replicated: every process gets all of them.
    """
    queue = collections.deque()
    for local in self._reader.eval_batches(self.batch_size, self._rows):
      batch = batches_lib.to_global(
          local, self._rows, self._sharding, self.batch_size)
      queue.append(step(params, batch))
      if len(queue) > _RUN_AHEAD:
        yield jax.device_get(queue.popleft())
    while queue:
      yield jax.device_get(queue.popleft())

  def skipped(self, seen: float) -> int:
    """Unreadable records of all processes, after a pass that saw `seen` examples."""
    bad = len(self._reader.bad_records)
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils
      bad = int(np.sum(multihost_utils.process_allgather(np.int32(bad))))
    expected = self.input.num_examples - bad
    if seen != expected:
      raise RuntimeError(
          f'Evaluation of {self.input.name}[{self.input.split}] saw {seen:.0f} '
          f'examples instead of {expected}; this is a defect.')
    return bad
