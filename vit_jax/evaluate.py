"""Exact evaluation of one split: every example once, on any number of hosts."""

import jax
import numpy as np

from vit_jax import job as job_lib
from vit_jax.parallel import batches as batches_lib
from vit_jax.parallel import mesh as mesh_lib

# Batches that may be queued on the device before the host waits.
_RUN_AHEAD = 2


class Evaluator:
  """`run(params)` gives the mean loss and the accuracy over one split."""

  def __init__(self, job, data_input, reuse=None):
    """Compiles nothing yet.

    Args:
      job: see `vit_jax.job`.
      data_input: see `vit_jax.data.open_input`, opened for evaluation.
      reuse: what earlier evaluations of the same process left.
    """
    self._reuse = reuse
    self._job = job
    self._input = data_input
    self._sharding = mesh_lib.over_batch(job.mesh)
    size = job.config.eval_batch_size or job.config.batch_size
    if not job.config.eval_batch_size:
      # No need to evaluate in larger batches than the split, and any size will do.
      size = min(size, -(-data_input.num_examples // job.mesh.size) * job.mesh.size)
    mesh_lib.check_batch(job.mesh, size, name='eval_batch_size')
    self._batch_size = size
    self._rows = batches_lib.rows_of_process(self._sharding, size)
    self._step = None

  def run(self, params) -> dict:
    """{'accuracy', 'loss'} of `params`; floats, equal on every process.

    Unreadable records, if `config.data.max_bad_records` allows any, are left out and
    counted as 'skipped_records'.
    """
    if self._step is None:
      self._step = job_lib.compile_eval_step(
          self._job, self._input.remaining, self._input.stored_shape,
          self._batch_size, self._reuse)
    sums = []
    for local in self._input.eval_batches(self._batch_size, self._rows):
      batch = batches_lib.to_global(
          local, self._rows, self._sharding, self._batch_size)
      sums.append(self._step(params, batch))
      if len(sums) > _RUN_AHEAD:
        jax.block_until_ready(sums[-1 - _RUN_AHEAD])
    total = {name: sum(np.float64(s[name]) for s in jax.device_get(sums))
             for name in sums[0]}
    skipped = self._skipped()
    expected = self._input.num_examples - skipped
    if total['count'] != expected:
      raise RuntimeError(
          f'Evaluation of {self._input.name}[{self._input.split}] saw '
          f'{total["count"]:.0f} examples instead of {expected}; this is a defect.')
    measured = {'accuracy': float(total['correct'] / total['count']),
                'loss': float(total['loss'] / total['count'])}
    return {**measured, 'skipped_records': skipped} if skipped else measured

  def _skipped(self):
    bad = len(self._input.bad_records)
    if jax.process_count() == 1:
      return bad
    from jax.experimental import multihost_utils
    return int(np.sum(multihost_utils.process_allgather(np.int32(bad))))
