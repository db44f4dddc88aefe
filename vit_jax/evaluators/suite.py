"""From the settings of a run to its evaluators."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import numpy as np

from vit_jax import evaluators, objectives
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import Config, DataSection, EvaluatorSection
from vit_jax.data import Input, open_input
from vit_jax.evaluators.evaluator import Evaluator, FeatureEvaluator, HeadEvaluator
from vit_jax.evaluators.features import FrozenFeatures
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.runtime.errors import UserError
from vit_jax.training.job import Job
from vit_jax.training.reuse import Reuse


@dataclasses.dataclass(frozen=True)
class EvaluatorSuite:
  """Named evaluators; those that look at the same data share its features."""
  evaluators: tuple[tuple[EvaluatorSection, Evaluator], ...]
  features: tuple[FrozenFeatures, ...]
  # Splits whose labels are sets of classes.
  label_sets: tuple[Input, ...] = ()

  def check_labels(self) -> None:
    """Raises UserError for an image with more labels than `max_labels`.

    Reads all records with sets of labels, each process its share, so that a training
    does not find out at its first evaluation.
    """
    for data_input in self.label_sets:
      data_input.source.check_labels(range(
          jax.process_index(), data_input.num_examples, jax.process_count()))

  def run(self, params: Any, number: int = 0) -> dict[str, float]:
    """{'<evaluator>/<metric>': value}; floats, equal on every process.

    Args:
      params: of the model.
      number: of the evaluation in a training, from 1; evaluators that are not due
        are left out. 0: all are due.
    """
    try:
      return _of_main({
          f'{section.name}/{metric}': value
          for section, evaluator in self.evaluators if number % section.every == 0
          for metric, value in evaluator.run(params).items()})
    finally:
      for features in self.features:
        features.forget()


def open_suite(job: Job, class_names: Sequence[str],
               sections: Iterable[EvaluatorSection], reuse: Reuse) -> EvaluatorSuite:
  """The evaluators of some sections, see `config.evaluators.of_run`.

  Args:
    job: of the run.
    class_names: of the training data.
    sections: checked ones.
    reuse: what earlier evaluations of the same process left.

  Raises:
    UserError: for data that is missing or doesn't suit the model.
  """
  features: dict[tuple, FrozenFeatures] = {}
  opened, label_sets = [], []
  for section in sections:
    key = evaluator_settings.key_of(job.config, section)
    data = evaluator_settings.data_section(job.config, section)
    kind = evaluators.find(section.kind, f'{key}.kind')
    if kind.on_features:
      train, test = (_frozen(job, data, split, section, key, reuse, features)
                     for split in (data.train_split, data.test_split))
      evaluator = cast(type[FeatureEvaluator], kind)(section, train, test, key)
    else:
      test = _split_pass(job, data, data.test_split, section, key, reuse)
      if test.input.label_shape:
        label_sets.append(test.input)
      # The run's own splits have its classes, and a map tells which correspond.
      if (section in job.config.evaluators and not section.label_map
          and _learns_classes(job.config)):
        _check_classes(test.input, list(class_names), key)
      evaluator = cast(type[HeadEvaluator], kind)(section, job, test, reuse.programs)
    opened.append((section, evaluator))
  return EvaluatorSuite(
      tuple(opened), tuple(features.values()), tuple(label_sets))


def _frozen(job: Job, data: DataSection, split: str, section: EvaluatorSection,
            key: str, reuse: Reuse,
            features: dict[tuple, FrozenFeatures]) -> FrozenFeatures:
  """Those of `features` that fit, else new ones, which join them."""
  shared = (dataclasses.replace(data, train_split='', test_split=''), split,
            section.layer, section.batch_size)
  if shared not in features:
    features[shared] = FrozenFeatures(
        job, _split_pass(job, data, split, section, key, reuse), section.layer,
        reuse.programs, key)
  return features[shared]


def _split_pass(job: Job, data: DataSection, split: str, section: EvaluatorSection,
                key: str, reuse: Reuse) -> SplitPass:
  data_input = open_input(data, split, train=False, splits=reuse.splits)
  return SplitPass(job, data_input, section.batch_size, f'{key}.batch_size')


def _learns_classes(config: Config) -> bool:
  return 'none' not in objectives.find(config.objective).labels


def _check_classes(data_input: Input, ours: list[str], key: str) -> None:
  theirs = list(data_input.class_names)
  what = f'{data_input.name}, the data of config.{key},'
  if len(theirs) != len(ours):
    raise UserError(
        f'{what} has {len(theirs)} classes, the head of the model {len(ours)}. Kind '
        "'classify' needs the classes of the training; for other classes use "
        'fewshot, probe or knn.')
  if theirs != ours and sorted(theirs) == sorted(ours):
    at = next(i for i in range(len(ours)) if theirs[i] != ours[i])
    raise UserError(
        f'{what} has the classes of the training in another order: class {at} is '
        f'{theirs[at]!r} there and was {ours[at]!r} in training. Prepare it with '
        'the same order.')


def _of_main(measured: dict[str, float]) -> dict[str, float]:
  """The values of process 0, bit for bit.

  What is computed on the hosts may round differently where their processors differ,
  and the processes must agree on which checkpoint is the best.
  """
  if jax.process_count() == 1 or not measured:
    return measured
  from jax.experimental import multihost_utils
  bits = np.array(list(measured.values()), np.float64).view(np.uint32)
  bits = np.asarray(multihost_utils.broadcast_one_to_all(bits))
  return dict(zip(measured, bits.view(np.float64).tolist(), strict=True))
