"""The model's own head on a split, measured as the objective does."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from vit_jax import objectives
from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.objectives.objective import Direction, check_returned
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training.job import Job
from vit_jax.training.programs import EvalStep


@dataclasses.dataclass(frozen=True)
class Classify:
  """`run(params)` gives what `Objective.summarise` makes of one split.

  See `evaluator.HeadEvaluator`.
  """
  section: EvaluatorSection
  job: Job
  test: SplitPass
  programs: ProgramCache

  on_features: ClassVar[bool] = False

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    del section
    return objectives.find(config.objective).metrics

  def run(self, params: Any) -> dict[str, float]:
    """The objective's metrics and counts; floats, equal on every process.

    Unreadable records, if `config.data.max_bad_records` allows any, are left out and
    counted as 'skipped_records'.
    """
    data_input = self.test.input
    total: dict[str, np.float64] = {}
    for sums in self.test.outputs(self._step, params):
      for name, value in sums.items():
        total[name] = total.get(name, np.float64(0)) + np.float64(value)
    skipped = self.test.skipped(total['seen'])
    objective = self.job.setup.objective(data_input.remaining)
    measured = objective.summarise(total, f'{data_input.name}[{data_input.split}]')
    check_returned(self.job.config, 'summarise', objective.metrics, measured)
    return measured | ({'skipped_records': skipped} if skipped else {})

  @functools.cached_property
  def _step(self) -> Callable[..., dict[str, jax.Array]]:
    data_input = self.test.input
    return self.programs.get(EvalStep(
        self.job.setup, data_input.remaining, data_input.stored_shape,
        data_input.label_shape, self.test.batch_size))
