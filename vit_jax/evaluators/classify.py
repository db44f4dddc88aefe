"""The model's own head on a split: mean loss and accuracy."""

import numpy as np

from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.runtime.errors import UserError
from vit_jax.training import job as job_lib


class Classify:
  """`run(params)` gives 'accuracy' and 'loss' over one split."""

  def __init__(self, job, data_input, reuse=None, batch_size: int = 0,
               batch_key: str = ''):
    """Compiles nothing yet.

    Args:
      job: see `vit_jax.training.job`; its `config.data` is that of the split.
      data_input: see `vit_jax.data.open_input`, opened for evaluation.
      reuse: what earlier evaluations of the same process left.
      batch_size, batch_key: see `SplitPass`.
    """
    self._job, self._reuse = job, reuse
    self._pass = SplitPass(job, data_input, batch_size, batch_key)
    self._step = None

  def run(self, params) -> dict:
    """{'accuracy', 'loss'} of `params`; floats, equal on every process.

    Means over the images with a label, which are all but for sets of labels
    (`config.data.max_labels`); there, each label of an image is right, and those
    without any are counted as 'unlabelled_records'. Unreadable records, if
    `config.data.max_bad_records` allows any, are left out and counted as
    'skipped_records'.
    """
    data_input = self._pass.input
    if self._step is None:
      self._step = job_lib.compile_eval_step(
          self._job, data_input.remaining, data_input.stored_shape,
          self._pass.batch_size, self._reuse)
    total = {}
    for sums in self._pass.outputs(self._step, params):
      for name, value in sums.items():
        total[name] = total.get(name, 0.0) + np.float64(value)
    skipped = self._pass.skipped(total['seen'])
    if not total['count']:
      raise UserError(
          f'No image of {data_input.name}[{data_input.split}] has a label, so there is '
          'nothing to measure; give a split with labels.')
    measured = {'accuracy': float(total['correct'] / total['count']),
                'loss': float(total['loss'] / total['count'])}
    unlabelled = int(total['seen'] - total['count'])
    left_out = {'skipped_records': skipped, 'unlabelled_records': unlabelled}
    return {**measured, **{name: n for name, n in left_out.items() if n}}
