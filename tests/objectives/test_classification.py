"""Targets, training accuracy and evaluation sums with sets of labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.config.sections import Config, LossSection, PreprocessSection
from vit_jax.objectives import losses
from vit_jax.objectives.classification import Classification

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(6, 5)).astype(np.float32) * 2
SETS = [{2}, {0, 4}, set(), {1, 2, 3}, {0}, set()]
LABELS = np.array([sorted(s) + [-1] * (4 - len(s)) for s in SETS], np.int32)
MASK = np.array([True, True, True, True, False, False])


class Fixed:
  """A model whose logits are those that it is given as parameters."""

  def apply(self, variables, images, train, rngs=None):
    del images, train, rngs
    return variables['params'], {}


def config(**loss):
  return dataclasses.replace(Config(), loss=LossSection(**loss))


def objective(settings):
  return Classification(settings, Fixed(), 5, PreprocessSection())


def loss_by_hand(name, logits, chosen):
  logits = np.float64(logits)
  if name == 'softmax':
    logs = logits - np.log(np.exp(logits).sum())
    return -np.mean([logs[c] for c in chosen])
  # log(1 + e^x) - x for the classes that are there.
  return np.log1p(np.exp(logits)).sum() - sum(logits[c] for c in chosen)


@pytest.mark.parametrize('name', losses.LOSSES)
def test_evaluation_scores_labelled_examples_alone(name):
  step = objective(config(name=name, label_smoothing=0.1)).eval_step
  batch = {'image': np.zeros((6, 224, 224, 3), np.uint8), 'label': LABELS,
           'mask': MASK}
  sums = jax.jit(step)(LOGITS, batch)
  scored = [i for i in range(6) if MASK[i] and SETS[i]]
  assert (sums['seen'], sums['count']) == (4, 3)
  assert sums['correct'] == sum(int(LOGITS[i].argmax()) in SETS[i] for i in scored)
  np.testing.assert_allclose(
      sums['loss'], sum(loss_by_hand(name, LOGITS[i], SETS[i]) for i in scored),
      rtol=1e-5)


@pytest.mark.parametrize('name', losses.LOSSES)
def test_sets_of_one_equal_single_labels(name):
  labels = np.array([0, 3, 1, 4, 2, 2], np.int32)
  step = objective(config(name=name)).eval_step
  def sums(labels):
    return step(LOGITS, {'image': np.zeros((6, 224, 224, 3), np.uint8),
                         'label': labels, 'mask': MASK})
  of_sets = np.full((6, 3), -1, np.int32)
  of_sets[:, 0] = labels
  single, many = sums(jnp.asarray(labels)), sums(jnp.asarray(of_sets))
  for key, value in single.items():
    np.testing.assert_allclose(many[key], value, rtol=1e-6, err_msg=key)
  assert single['count'] == single['seen'] == 4


def test_training_accuracy_asks_for_a_class_of_the_set():
  settings = dataclasses.replace(
      config(), data=dataclasses.replace(Config().data, image_size=(4, 4)))
  classify = objective(settings)
  batch = {'image': np.zeros((6, 4, 4, 3), np.uint8), 'label': jnp.asarray(LABELS)}
  examples = classify.prepare(batch, jax.random.key(0))
  # The top class of each; all but the last belong to their sets.
  top = jnp.array([2, 4, 0, 1, 3, 0])
  _, metrics = classify.loss(jax.nn.one_hot(top, 5), examples, None)
  assert float(metrics['accuracy']) == pytest.approx(3 / 4)
  # A batch without any label has nothing to get right.
  _, metrics = classify.loss(
      jax.nn.one_hot(top, 5), {**examples, 'label': jnp.full((6, 4), -1)}, None)
  assert float(metrics['accuracy']) == 0


def test_mixup_mixes_sets():
  settings = dataclasses.replace(
      config(name='sigmoid'),
      data=dataclasses.replace(Config().data, image_size=(4, 4)),
      mixup=dataclasses.replace(Config().mixup, alpha=1.0))
  batch = {'image': np.zeros((6, 4, 4, 3), np.uint8), 'label': jnp.asarray(LABELS)}
  examples = jax.jit(objective(settings).prepare)(batch, jax.random.key(0))
  sets = np.array([[c in s for c in range(5)] for s in SETS], np.float32)
  # Row 0, {2}, mixed with its predecessor, which has no label.
  weight = float(examples['target'][0, 2])
  assert 0.5 <= weight < 1
  np.testing.assert_allclose(
      examples['target'], weight * sets + (1 - weight) * np.roll(sets, 1, 0), rtol=1e-5)
  np.testing.assert_array_equal(examples['label'], LABELS)
