"""kNN against scikit-learn's, with blocks of any size and on many devices."""

import jax
import numpy as np
import pytest
from sklearn import datasets, neighbors

from vit_jax.config.sections import MeshSection
from vit_jax.evaluators import neighbours
from vit_jax.parallel import mesh as mesh_lib


@pytest.fixture(scope='module')
def digits():
  found = datasets.load_digits()
  x = found.data.astype(np.float32) - 5
  return x[:700], found.target[:700].astype(np.int32), x[700:1000]


def _expected(train_x, labels, test_x, k, temperature):
  model = neighbors.KNeighborsClassifier(
      k, metric='cosine', algorithm='brute',
      weights=lambda distances: np.exp((1 - distances) / temperature))
  return model.fit(train_x.astype(np.float64), labels).predict(
      test_x.astype(np.float64))


@pytest.mark.parametrize('k, temperature', [(1, 0.07), (20, 0.07), (150, 0.5)])
@pytest.mark.parametrize('queries, block', [(4096, 16384), (64, 97)])
def test_as_scikit_learn(digits, monkeypatch, k, temperature, queries, block):
  monkeypatch.setattr(neighbours, '_QUERIES', queries)
  monkeypatch.setattr(neighbours, '_BLOCK', block)
  mesh = mesh_lib.create(MeshSection(), jax.devices()[:2])
  found = neighbours.predict(mesh, *digits, 10, k, temperature)
  np.testing.assert_array_equal(found, _expected(*digits, k, temperature))


def test_a_low_temperature_is_the_nearest_alone(digits):
  mesh = mesh_lib.create(MeshSection(fsdp=4))
  found = neighbours.predict(mesh, *digits, 10, 30, 1e-4)
  np.testing.assert_array_equal(found, _expected(*digits, 1, 1.0))


def test_votes_worth_more_than_the_nearest():
  # Similarities to the query: 1 for class 0; 0.96 and 0.96 for class 1.
  x = np.array([[1, 0], [.96, .28], [.96, -.28], [-1, 0]], np.float32)
  labels, query = np.array([0, 1, 1, 0], np.int32), np.array([[2, 0]], np.float32)
  mesh = mesh_lib.create(MeshSection(), jax.devices()[:1])
  def predict(k, temperature):
    return neighbours.predict(mesh, x, labels, query, 2, k, temperature)[0]
  assert predict(1, 0.07) == 0
  assert predict(3, 0.07) == 1  # 2 exp(-0.04 / 0.07) > 1
  assert predict(3, 0.05) == 0  # 2 exp(-0.04 / 0.05) < 1
