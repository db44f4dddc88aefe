"""From the settings of a run to its evaluators."""

import dataclasses

import jax
import numpy as np

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.data import open_input
from vit_jax.evaluators.classify import Classify
from vit_jax.evaluators.features import FrozenFeatures
from vit_jax.evaluators.fewshot import FewShot
from vit_jax.evaluators.neighbours import Neighbours
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.reuse import Reuse


def open_all(job, class_names, reuse: Reuse | None = None) -> 'Evaluators':
  """All evaluators of a training: its 'val' and 'test' splits, `config.evaluators`.

  Args:
    job: see `vit_jax.training.job`.
    class_names: of the training data.
    reuse: what earlier evaluations of the same process left.

  Raises:
    UserError: for data that is missing or doesn't suit the model.
  """
  data = job.config.data
  evaluators = Evaluators(job, class_names, reuse)
  for name, split in (('val', data.val_split), ('test', data.test_split)):
    if split:
      evaluators.add_split(name, split)
  for section in job.config.evaluators:
    evaluators.add(section)
  return evaluators


class Evaluators:
  """Named evaluators; those that look at the same data share its features."""

  def __init__(self, job, class_names, reuse: Reuse | None = None):
    self._job, self._class_names = job, list(class_names)
    # Also within one run: a split is decoded once for all that look at it.
    self._reuse = reuse or Reuse()
    # (name, every, evaluator), and the features by what they depend on.
    self._entries, self._features = [], {}

  def add_split(self, name: str, split: str):
    """Accuracy and loss on a split of the run's own data set."""
    data_input = open_input(
        self._job.config.data, split, train=False, splits=self._reuse.splits)
    self._entries.append((name, 1, Classify(self._job, data_input, self._reuse)))

  def add(self, section):
    """One of `config.evaluators`."""
    key = f'evaluators[{self._job.config.evaluators.index(section)}]'
    data = evaluator_settings.data_section(self._job.config, section)
    job = dataclasses.replace(
        self._job, config=dataclasses.replace(self._job.config, data=data))
    if section.kind == 'classify':
      evaluator = self._open_classify(job, section, key)
    else:
      evaluator = self._open_frozen(job, section, key)
    self._entries.append((section.name, section.every, evaluator))

  def run(self, params, turn: int = 0) -> dict:
    """{'<evaluator>/<metric>': value}; floats, equal on every process.

    Args:
      params: of the model.
      turn: this is the `turn`-th evaluation of a training, and evaluators that are
        not due are left out; 0: all are.
    """
    try:
      return _of_main({
          f'{name}/{metric}': value
          for name, every, evaluator in self._entries if turn % every == 0
          for metric, value in evaluator.run(params).items()})
    finally:
      for features in self._features.values():
        features.forget()

  def _open_classify(self, job, section, key):
    data = job.config.data
    data_input = open_input(
        data, data.test_split, train=False, splits=self._reuse.splits)
    theirs, ours = list(data_input.class_names), self._class_names
    what = f'{data.name}, the data of config.{key},'
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
    return Classify(job, data_input, self._reuse, section.batch_size,
                    f'{key}.batch_size')

  def _open_frozen(self, job, section, key):
    data = job.config.data
    train = self._frozen(job, data.train_split, section, key)
    test = self._frozen(job, data.test_split, section, key)
    num_classes = train.input.num_classes
    if section.kind == 'fewshot':
      return FewShot(section, train, test, num_classes)
    if section.kind == 'probe':
      # Here because scikit-learn takes a second to import.
      from vit_jax.evaluators.probe import LinearProbe
      return LinearProbe(section, train, test)
    if section.k > train.input.num_examples:
      raise UserError(
          f'config.{key}.k is {section.k}, but {data.name}[{data.train_split}] has '
          f'{train.input.num_examples} examples; lower it.')
    return Neighbours(section, train, test, num_classes, job.mesh)

  def _frozen(self, job, split, section, key):
    data = job.config.data
    shared = (dataclasses.replace(data, train_split='', test_split=''), split,
              section.layer, section.batch_size)
    if shared not in self._features:
      data_input = open_input(data, split, train=False, splits=self._reuse.splits)
      self._features[shared] = FrozenFeatures(
          job, data_input, section.layer, section.batch_size, key, self._reuse)
    return self._features[shared]


def _of_main(measured: dict) -> dict:
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
