"""What an evaluator says of itself, and what it is given."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.evaluators.features import FrozenFeatures
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.objectives.objective import Direction
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training.job import Job


class Evaluator(Protocol):
  """Of one kind; a class is made for every evaluator of a run.

  Attributes:
    on_features: whether it is a `FeatureEvaluator`, else a `HeadEvaluator`.
  """
  on_features: ClassVar[bool]

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    """Results that can choose the best checkpoint, with what is better; of no data."""
    ...

  def run(self, params: Any) -> dict[str, float]:
    """All results for the model's parameters, equal on every process."""
    ...


class HeadEvaluator(Evaluator, Protocol):
  """Runs the model with its own head, on data with the classes of the training."""

  def __init__(self, section: EvaluatorSection, job: Job, test: SplitPass,
               programs: ProgramCache) -> None:
    """Compiles nothing yet.

    Args:
      section: its settings.
      job: of the run.
      test: the split.
      programs: where compiled ones are kept.

    Raises:
      UserError: for settings or data that it can't use.
    """
    ...


class FeatureEvaluator(Evaluator, Protocol):
  """Fits something to frozen features; its data have one label per image."""

  def __init__(self, section: EvaluatorSection, train: FrozenFeatures,
               test: FrozenFeatures, key: str) -> None:
    """Computes nothing yet.

    Args:
      section: its settings.
      train: features of the split to fit to.
      test: those of the split to measure on.
      key: of the settings, such as 'evaluators[0]', for messages.

    Raises:
      UserError: for settings or data that it can't use.
    """
    ...
