"""Accuracy on data whose classes correspond to sets of the model's classes.

Such as ObjectNet, whose class 'bench' is ImageNet's 'park bench', see docs/results.md.

Dims: B images, K labels of an image at most, D classes of the data, C of the model.
"""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vit_jax.config.sections import Config, EvaluatorSection, PreprocessSection
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.objectives.objective import Direction, PredictsClasses
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training.job import Job
from vit_jax.training.programs import Setup

_TOP = 5

# For each class of the data, in its order, the classes of the model that are right.
LabelMap = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class LabelMapStep:
  """`(params, batch) -> sums`, a compiled program; see `score`.

  Attributes:
    setup, remaining, stored_shape, label_shape, batch_size: see `programs.EvalStep`.
    label_map: of the evaluator.
    restricted: whether only classes of the map can be predicted.
  """
  setup: Setup
  remaining: PreprocessSection
  stored_shape: tuple[int, ...]
  label_shape: tuple[int, ...]
  batch_size: int
  label_map: LabelMap
  restricted: bool

  def lower(self) -> jax.stages.Lowered:
    setup = self.setup
    jitted = jax.jit(self._step, out_shardings=mesh_lib.replicated(setup.mesh))
    return jitted.lower(setup.abstract_state.eval_params, setup.abstract_batch(
        self.batch_size, self.stored_shape, self.label_shape, mask=True))

  def build(self) -> Callable[..., dict[str, jax.Array]]:
    return self.setup.compile(self.lower())

  def _step(self, params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    objective = cast(PredictsClasses, self.setup.objective(self.remaining))
    sums = score(objective.logits(params, batch['image']), batch['label'],
                 batch['mask'], self.label_map, self.restricted)
    return sums | {'seen': batch['mask'].sum()}


@dataclasses.dataclass(frozen=True)
class LabelMapEvaluator:
  """`run(params)` gives 'accuracy' and 'top5_accuracy'.

  An image is right if the most likely class, or one of the five most likely, is among
  those of its label or of one of its labels. Images whose labels have no class of the
  model do not count; 'unmapped_records' says how many they are. See
  `evaluator.HeadEvaluator`.
  """
  section: EvaluatorSection
  job: Job
  test: SplitPass
  programs: ProgramCache

  on_features: ClassVar[bool] = False

  def __post_init__(self) -> None:
    objective = self.job.setup.objective(self.test.input.remaining)
    if not isinstance(objective, PredictsClasses):
      raise UserError(
          f'Evaluator {self.section.name!r} needs logits of classes, and '
          f'config.objective={self.job.config.objective!r} has none. Take it out.')
    _ = self._label_map  # mistakes in the file are found before anything starts

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    del config, section
    return {'accuracy': 'max', 'top5_accuracy': 'max'}

  def run(self, params: Any) -> dict[str, float]:
    """Accuracies over the images with a label in the map, and counts."""
    total: dict[str, float] = {}
    for sums in self.test.outputs(self._step, params):
      for name, value in sums.items():
        total[name] = total.get(name, 0.0) + float(value)
    skipped = self.test.skipped(total['seen'])
    if not total['count']:
      raise UserError(
          f'No image of {self.test.input.name}[{self.test.input.split}] has a label in '
          f'{self.section.label_map}; give another split or map.')
    measured = {'accuracy': total['top1'] / total['count'],
                'top5_accuracy': total['top5'] / total['count']}
    unmapped = int(total['seen'] - total['count'])
    measured |= {'unmapped_records': unmapped} if unmapped else {}
    return measured | ({'skipped_records': skipped} if skipped else {})

  @functools.cached_property
  def _label_map(self) -> LabelMap:
    return read(self.section.label_map, self.test.input.class_names,
                self.job.num_classes)

  @functools.cached_property
  def _step(self) -> Callable[..., dict[str, jax.Array]]:
    data_input = self.test.input
    return self.programs.get(LabelMapStep(
        self.job.setup, data_input.remaining, data_input.stored_shape,
        data_input.label_shape, self.test.batch_size, self._label_map,
        self.section.restrict_classes))


def score(logits: jax.Array, labels: jax.Array, mask: jax.Array, label_map: LabelMap,
          restricted: bool) -> dict[str, jax.Array]:
  """Sums over the images that count: 'top1' and 'top5' are right, 'count' in all.

  Args:
    logits: (B, C).
    labels: (B,) classes of the data, or (B, K) sets of them filled up with -1.
    mask: (B,) bools; other images do not count.
    label_map: see `LabelMap`.
    restricted: whether only classes of the map can be predicted.
  """
  table = np.zeros((len(label_map) + 1, logits.shape[-1]), bool)  # (D + 1, C)
  for row, classes in zip(table, label_map, strict=False):
    row[list(classes)] = True
  if restricted:
    logits = jnp.where(table.any(axis=0), logits, -jnp.inf)
  # The last row, without any class, is that of label -1.
  right = jnp.asarray(table)[labels.reshape(len(labels), -1)].any(axis=1)  # (B, C)
  counted = mask & right.any(axis=-1)
  _, top = jax.lax.top_k(logits, min(_TOP, logits.shape[-1]))
  hits = jnp.take_along_axis(right, top, axis=-1) & counted[:, None]  # (B, 5)
  return {'top1': hits[:, 0].sum(), 'top5': hits.any(axis=-1).sum(),
          'count': counted.sum()}


def read(path: str, data_classes: Sequence[str], num_classes: int) -> LabelMap:
  """The map in a JSON file: {name of a class of the data: [numbers of the model's]}.

  Classes of the data that it leaves out have none.

  Raises:
    UserError: for a file that is no such map.
  """
  expected = ('Expected {"class of the data": [classes of the model, numbers from 0 to '
              f'{num_classes - 1}], ...}}.')
  try:
    found = json.loads(epath.Path(path).read_text())
  except (OSError, ValueError) as e:
    raise UserError(f'Cannot read the label map {path!r}: {e}. {expected}') from e
  if not isinstance(found, dict):
    raise UserError(f'The label map {path} holds a {type(found).__name__}. {expected}')
  for name, classes in found.items():
    if name not in data_classes:
      near = difflib.get_close_matches(name, data_classes, n=1)
      hint = f'Did you mean {near[0]!r}?' if near else 'Take it out.'
      raise UserError(f'The label map {path} has {name!r}, which is no class of the '
                      f'data. {hint}')
    if not isinstance(classes, list) or not all(
        type(c) is int and 0 <= c < num_classes for c in classes):
      raise UserError(f'The label map {path} has {classes!r} for {name!r}. {expected}')
  return tuple(tuple(found.get(name, ())) for name in data_classes)
