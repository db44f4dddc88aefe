"""Draws, the choice of l2, and accuracies against scikit-learn's ridge regression."""

import numpy as np
import pytest
from sklearn import datasets, linear_model
from tiny_jobs import CLASSES, GivenFeatures

from vit_jax.config.sections import EvaluatorSection
from vit_jax.evaluators import fewshot
from vit_jax.evaluators.fewshot import FewShot, draw
from vit_jax.runtime.errors import UserError


@pytest.fixture(scope='module')
def digits():
  """(x, labels) for training and for testing: real images as features."""
  found = datasets.load_digits()
  return (found.data[:1200], found.target[:1200]), (found.data[1200:],
                                                    found.target[1200:])


def _section(**settings):
  return EvaluatorSection(name='few', kind='fewshot', **settings)


@pytest.mark.parametrize('shots', [1, 3])
def test_a_draw_takes_so_many_of_every_class(shots):
  labels = np.random.default_rng(0).integers(0, 7, 200)
  drawn, rest = draw(labels, shots, seed=4)
  assert (np.bincount(labels[drawn]) == shots).all()
  assert sorted([*drawn, *rest]) == list(range(200))
  assert set(draw(labels, 1, seed=4)[0]) <= set(drawn)
  assert set(draw(labels, shots, seed=5)[0]) != set(drawn)


def test_every_example_is_as_likely_to_be_drawn():
  labels = np.repeat([0, 1], [4, 8])
  times = np.zeros(12)
  for seed in range(2000):
    times[draw(labels, 1, seed)[0]] += 1
  # Five standard deviations of a binomial count.
  np.testing.assert_allclose(times[:4], 500, atol=5 * np.sqrt(2000 * .25 * .75))
  np.testing.assert_allclose(times[4:], 250, atol=5 * np.sqrt(2000 / 8 * 7 / 8))


def _with_scikit_learn(train, test, shots, seeds, candidates):
  """(test accuracy, l2), chosen on all examples that were not drawn."""
  held_out, tested = np.zeros(len(candidates)), np.zeros(len(candidates))
  for seed in range(seeds):
    drawn, rest = draw(train[1], shots, seed)
    x = train[0][drawn]
    mean, deviation = x.mean(0), x.std(0) + 1e-5
    y = np.where(np.eye(10)[train[1][drawn]] > 0, 1, -1)
    for i, l2 in enumerate(candidates):
      model = linear_model.Ridge(alpha=l2, solver='svd').fit((x - mean) / deviation, y)
      for hits, (images, labels) in ((held_out, (train[0][rest], train[1][rest])),
                                     (tested, test)):
        predicted = model.predict((images - mean) / deviation).argmax(1)
        hits[i] += np.mean(predicted == labels) / seeds
  best = max(range(len(candidates)), key=lambda i: (held_out[i], candidates[i]))
  return tested[best], candidates[best]


def _by_dense_solve(train, test, shots, seeds, l2):
  """Mean accuracy; the bias is one more feature, 100, regularised like all others."""
  hits = []
  for seed in range(seeds):
    drawn, _ = draw(train[1], shots, seed)
    mean, deviation = train[0][drawn].mean(0), train[0][drawn].std(0) + 1e-5
    def features(x, mean=mean, deviation=deviation):
      return np.pad((x - mean) / deviation, ((0, 0), (0, 1)), constant_values=100.0)
    x, y = features(train[0][drawn]), 2.0 * np.eye(10)[train[1][drawn]] - 1
    w = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    hits.append(np.mean((features(test[0]) @ w).argmax(1) == test[1]))
  return np.mean(hits)


@pytest.mark.parametrize('settings, l2', [({}, 1024.0), ({'l2': (8.0,)}, 8.0)])
def test_one_strength_as_in_a_dense_solve(digits, settings, l2):
  train, test = digits
  measured = FewShot(
      _section(shots=(1, 5, 10), **settings), GivenFeatures(*train),
      GivenFeatures(*test)).run(None)
  assert list(measured) == ['1shot', '5shot', '10shot']
  for shots in (1, 5, 10):
    expected = _by_dense_solve(train, test, shots, 3, l2)
    assert measured[f'{shots}shot'] == pytest.approx(expected, abs=1e-9)
  assert list(FewShot.metrics(None, _section(**settings)))[0] == '1shot'


def test_accuracy_and_l2_as_with_scikit_learn(digits):
  train, test = digits
  l2 = (0.01, 1.0, 100.0, 1e4)
  measured = FewShot(
      _section(shots=(1, 10), seeds=2, l2=l2, select_l2=True), GivenFeatures(*train),
      GivenFeatures(*test)).run(None)
  assert list(measured) == [
      '1shot_selected', '1shot_l2', '10shot_selected', '10shot_l2']
  for shots in (1, 10):
    accuracy, best = _with_scikit_learn(train, test, shots, 2, l2)
    assert measured[f'{shots}shot_selected'] == pytest.approx(accuracy, abs=1e-9)
    assert measured[f'{shots}shot_l2'] == best
  # Ten real images per class tell ten digits apart.
  one, ten = measured['1shot_selected'], measured['10shot_selected']
  assert ten > one > 0.3 and ten > 0.8


def test_the_test_split_has_no_part_in_the_choice(digits):
  train, (x, labels) = digits
  settings = _section(shots=(5,), seeds=1, select_l2=True)
  measured = FewShot(settings, GivenFeatures(*train), GivenFeatures(x, labels))
  shuffled = np.random.default_rng(0).permutation(labels)
  other = FewShot(settings, GivenFeatures(*train), GivenFeatures(x, shuffled))
  assert measured.run(None)['5shot_l2'] == other.run(None)['5shot_l2']
  assert other.run(None)['5shot_selected'] < 0.2
  assert measured.run(None)['5shot_selected'] > 0.2


def test_held_out_examples_are_never_drawn_ones(digits, monkeypatch):
  (x, labels), test = digits
  fitted, scored = [], []
  ridge = fewshot.Ridge
  class Watched(ridge):
    def __init__(self, x, y):
      fitted.append(len(x))
      super().__init__(x, y)
    def project(self, x):
      scored.append(len(x))
      return super().project(x)
  monkeypatch.setattr(fewshot, 'Ridge', Watched)
  FewShot(_section(shots=(2,), seeds=1, held_out=77, select_l2=True),
          GivenFeatures(x, labels), GivenFeatures(*test)).run(None)
  assert (fitted, scored) == ([20], [77, len(test[0])])


@pytest.mark.parametrize('settings, message', [
    (dict(shots=(1, 6)), r"'few' draws 6 images per class, .*fewer: 3 \(4\)"),
    (dict(shots=(1, 5)), r'fewer: 3 \(4\)'),
    (dict(shots=(4,)), None),
])
def test_too_few_examples(settings, message):
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(10), [9, 9, 9, 4, 9, 9, 9, 9, 9, 9])
  given = GivenFeatures(rng.normal(size=(len(labels), 5)), labels)
  evaluator = FewShot(_section(**settings), given, given)
  if message is None:
    evaluator.run(None)
    return
  with pytest.raises(UserError, match=message):
    evaluator.run(None)


def test_nothing_left_to_choose_on():
  labels = np.repeat(np.arange(3), 4)
  given = GivenFeatures(
      np.random.default_rng(0).normal(size=(12, 5)), labels, CLASSES[:3])
  with pytest.raises(UserError, match='draws all 12 images'):
    FewShot(_section(shots=(4,), select_l2=True), given, given).run(None)
  measured = FewShot(
      _section(shots=(4,), l2=(2.0,), select_l2=True), given, given).run(None)
  assert measured['4shot_l2'] == 2.0
  assert '4shot' in FewShot(_section(shots=(4,)), given, given).run(None)
