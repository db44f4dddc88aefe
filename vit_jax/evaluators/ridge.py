"""Regularised least squares in closed form, for many strengths at once.

Dims: N examples, D features, K targets.
"""

import numpy as np


class Ridge:
  """Minimises |x W + b - y|^2 + l2 |W|^2 over W and b, for any l2 > 0.

  One eigen-decomposition of the smaller of x'x and xx' serves every l2; float64.
  The bias b is not regularised: it is what centring x and y comes to.
  """

  def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
    """Takes x (N, D) and y (N, K); costs N * D * min(N, D) and its cube."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    self._x_mean, self._y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - self._x_mean, y - self._y_mean
    # Both forms of W = left @ diag(1 / (eigenvalues + l2)) @ right.
    if x.shape[0] >= x.shape[1]:
      values, vectors = np.linalg.eigh(x.T @ x)
      self._left, self._right = vectors, vectors.T @ (x.T @ y)
    else:
      values, vectors = np.linalg.eigh(x @ x.T)
      self._left, self._right = x.T @ vectors, vectors.T @ y
    # Rounding makes the zeros among them slightly negative.
    self._values = np.maximum(values, 0)

  def project(self, x: np.ndarray) -> np.ndarray:
    """The part of the prediction that all l2 share, for `predict`."""
    return (np.asarray(x, np.float64) - self._x_mean) @ self._left

  def predict(self, projected: np.ndarray, l2: float) -> np.ndarray:
    """(M, K) predictions of `project`ed examples."""
    return projected @ (self._right / (self._values + l2)[:, None]) + self._y_mean
