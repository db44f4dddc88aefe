"""What the training step, the evaluation and the screen need to know of an objective.

Dims: B examples of a batch.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import numpy as np

from vit_jax.config.sections import Config, PreprocessSection
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

# What a better value of a metric is: a higher or a lower one.
Direction = Literal['max', 'min']
# A class per image, a set of classes (`config.data.max_labels`), or nothing.
Labels = Literal['class', 'set', 'none']


class Objective(Protocol):
  """What a model is trained for. A frozen dataclass with the four fields of `__init__`.

  Attributes:
    shown: of the metrics of a step, those of the progress line, in its order, with
      their formats; all of them are written to metrics.jsonl.
    metrics: what `summarise` returns always, with what is better. These can choose the
      best checkpoint.
    labels: the kinds of labels that it can use; 'none' if it looks at no labels.
  """
  shown: ClassVar[Mapping[str, str]]
  metrics: ClassVar[Mapping[str, Direction]]
  labels: ClassVar[tuple[Labels, ...]]

  def __init__(self, config: Config, model: Model, num_classes: int,
               remaining: PreprocessSection) -> None:
    """Computes nothing.

    Args:
      config: of the run, as far as compiled programs may depend on it: everything
        else has its default, see `vit_jax.config.compiled`.
      model: its head has `num_outputs` outputs.
      num_classes: of the training data.
      remaining: the preprocessing that the input pipeline left to the accelerator,
        see `vit_jax.preprocessing.device.augment`.
    """
    ...

  @staticmethod
  def check(config: Config) -> None:
    """Raises UserError for settings that it can't use; looks at no data."""
    ...

  @staticmethod
  def num_outputs(config: Config, num_classes: int) -> int:
    """Width of the model's head for data of so many classes."""
    ...

  def prepare(self, batch: Mapping[str, jax.Array], key: jax.Array) -> Any:
    """The examples of a global batch: what must not depend on accumulation.

    Args:
      batch: 'image', uint8 as the input pipeline yields them, and 'label': int32 (B,),
        or (B, K) sets of up to K classes filled up with -1.
      key: of this step.

    Returns:
      A tree of arrays with B rows each.
    """
    ...

  def loss(self, params: Any, examples: Any,
           key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(loss, metrics), averages over the examples it is given: all or some rows."""
    ...

  def eval_step(self, params: Any,
                batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Sums over the examples of a batch whose `batch['mask']` is True.

    'seen' must be the number of these.
    """
    ...

  def summarise(self, sums: Mapping[str, float], split: str) -> dict[str, float]:
    """The measurements of a split: all `metrics`, and counts of what was left out.

    Args:
      sums: of the results of `eval_step`.
      split: 'name[split]' of the data, for messages.

    Raises:
      UserError: if there is nothing to measure.
    """
    ...


@runtime_checkable
class PredictsClasses(Protocol):
  """What an objective has beside that if its model can classify single images."""

  def logits(self, params: Any, images: jax.Array) -> jax.Array:
    """(B, C) of uint8 images as the input pipeline yields them for evaluation."""
    ...

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    """(B, C) float64, of the classes."""
    ...


def check_returned(config: Config, method: str, promised: Collection[str],
                   found: Collection[str]) -> None:
  """Raises UserError unless a method of the objective returned what it promised."""
  missing = [name for name in promised if name not in found]
  if missing:
    raise UserError(
        f'{method}() of config.objective={config.objective!r} has to return '
        f'{", ".join(missing)}; it returns {", ".join(found)}. Change one of them, see '
        'vit_jax/objectives/objective.py.')
