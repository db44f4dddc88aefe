"""Losses against values by hand and a float64 re-derivation."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.config import sections
from vit_jax.objectives import losses
from vit_jax.runtime import errors

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 7)).astype(np.float32) * 3
LABELS = RNG.integers(0, 7, 5)


def _numpy_softmax(logits, targets):
  exps = np.exp(logits.astype(np.float64))
  return -(targets * np.log(exps / exps.sum(-1, keepdims=True))).sum(-1)


def _numpy_sigmoid(logits, targets):
  p = 1 / (1 + np.exp(-logits.astype(np.float64)))
  return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(-1)


NUMPY = {'softmax': _numpy_softmax, 'sigmoid': _numpy_sigmoid}


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('name', losses.LOSSES)
def test_values(name, smoothing):
  loss = losses.create(sections.LossSection(name, smoothing))
  targets = losses.targets(jnp.asarray(LABELS), 7, smoothing)
  value = jax.jit(loss)(LOGITS, targets)
  assert value.shape == (5,) and value.dtype == jnp.float32
  np.testing.assert_allclose(
    value, NUMPY[name](LOGITS, np.asarray(targets, np.float64)), rtol=2e-6)


def test_by_hand():
  """Zero logits: log C for softmax, C log 2 for sigmoid."""
  targets = losses.targets(jnp.array([1]), 4)
  zeros = jnp.zeros((1, 4))
  np.testing.assert_allclose(
    losses.softmax_cross_entropy(zeros, targets), [math.log(4)], rtol=1e-6)
  np.testing.assert_allclose(
    losses.sigmoid_cross_entropy(zeros, targets), [4 * math.log(2)], rtol=1e-6)


@pytest.mark.parametrize('name', losses.LOSSES)
def test_extreme_and_half_precision_logits(name):
  loss = losses.LOSSES[name]
  targets = losses.targets(jnp.array([0, 1]), 2)
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  value, gradient = jax.value_and_grad(lambda x: loss(x, targets).sum())(logits)
  assert value == 2e4 and np.isfinite(gradient).all()
  half = loss(jnp.asarray(LOGITS[:2, :2], jnp.bfloat16), targets)
  assert half.dtype == jnp.float32


def test_targets():
  plain = losses.targets(jnp.array([2, 0]), 3)
  assert plain.dtype == jnp.float32
  assert plain.tolist() == [[0, 0, 1], [1, 0, 0]]
  smooth = losses.targets(jnp.array([2]), 4, 0.2)
  np.testing.assert_allclose(smooth, [[0.05, 0.05, 0.85, 0.05]], rtol=1e-6)
  assert losses.targets(jnp.array([-1, 3]), 3).tolist() == [[0, 0, 0]] * 2


SETS = jnp.array([[2, 0, -1], [1, -1, -1], [-1, -1, -1]])


def test_targets_of_sets():
  """By hand; C = 4, smoothing 0.2: 0.05 for every class, 0.8 for what is there."""
  shared = losses.targets(SETS, 4)
  assert shared.dtype == jnp.float32
  assert shared.tolist() == [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0] * 4]
  assert losses.targets(SETS, 4, name='sigmoid').tolist() == [
    [1, 0, 1, 0], [0, 1, 0, 0], [0] * 4]
  np.testing.assert_allclose(
    losses.targets(SETS, 4, 0.2),
    [[0.45, 0.05, 0.45, 0.05], [0.05, 0.85, 0.05, 0.05], [0] * 4], rtol=1e-6)
  np.testing.assert_allclose(
    losses.targets(SETS, 4, 0.2, 'sigmoid'),
    [[0.85, 0.05, 0.85, 0.05], [0.05, 0.85, 0.05, 0.05], [0.05] * 4], rtol=1e-6)


@pytest.mark.parametrize('name', losses.LOSSES)
def test_loss_of_sets(name):
  value = losses.LOSSES[name](LOGITS[:3, :4], losses.targets(SETS, 4, name=name))
  rows = np.float64(LOGITS[:3, :4])
  logs = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
  softplus = np.log1p(np.exp(rows)).sum(-1)
  expected = {
    'softmax': [-(logs[0, 2] + logs[0, 0]) / 2, -logs[1, 1], 0],
    'sigmoid': softplus - [rows[0, 2] + rows[0, 0], rows[1, 1], 0]}[name]
  np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize('settings,word', [
  ({'name': 'softmx'}, "Did you mean 'softmax'"),
  ({'label_smoothing': 1.0}, 'label_smoothing is 1.0'),
  ({'label_smoothing': -0.1}, 'label_smoothing is -0.1'),
])
def test_bad_sections(settings, word):
  section = dataclasses.replace(sections.LossSection(), **settings)
  with pytest.raises(errors.UserError, match=word):
    losses.create(section)
