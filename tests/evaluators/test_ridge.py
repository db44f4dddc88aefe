"""Closed-form least squares against scikit-learn's."""

import numpy as np
import pytest
from sklearn import linear_model

from vit_jax.evaluators.ridge import Ridge


@pytest.mark.parametrize('examples, features', [(40, 7), (7, 40), (12, 12)])
@pytest.mark.parametrize('l2', [1e-3, 1.0, 1e4])
def test_as_scikit_learn(examples, features, l2):
  rng = np.random.default_rng(0)
  x = 3 + rng.normal(size=(examples, features))
  y, new = rng.normal(size=(examples, 4)), rng.normal(size=(9, features))
  ridge = Ridge(x, y)
  expected = linear_model.Ridge(alpha=l2, solver='svd').fit(x, y).predict(new)
  np.testing.assert_allclose(
      ridge.predict(ridge.project(new), l2), expected, rtol=1e-8, atol=1e-8)


def test_features_that_depend_on_each_other():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(30, 5))
  x = np.concatenate([x, x, np.ones((30, 3))], axis=1)
  y = rng.normal(size=(30, 2))
  ridge = Ridge(x, y)
  expected = linear_model.Ridge(alpha=1e-3, solver='svd').fit(x, y).predict(x)
  np.testing.assert_allclose(
      ridge.predict(ridge.project(x), 1e-3), expected, rtol=1e-6, atol=1e-6)
