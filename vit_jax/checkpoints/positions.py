"""The grid of patches that positions belong to: of an image, and resized.

All code bases interpolate rows and columns one after the other, so a method is a matrix
(new size, old size) per dim. They give clearly different embeddings: on noise of
variance 1 by 0.2 to 0.4 root mean square. Only the method that a model was converted or
published with reproduces its outputs.
"""

from collections.abc import Callable

import numpy as np

from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

POSITIONS = 'Transformer/posembed_input/pos_embedding'  # our name of them
Grid = tuple[int, int]  # (h, w) patches


def grid_of(model: Model, image_size: tuple[int, int]) -> Grid:
  """(h, w) tokens of an image."""
  for size, stride in zip(image_size, model.strides, strict=True):
    if size < 1 or size % stride:
      raise UserError(
          f'image_size {tuple(image_size)} is not a multiple of {stride} pixels, the '
          "size of one token of the file's model. Give another size.")
  (height, width), (rows, columns) = image_size, model.strides
  return height // rows, width // columns


def image_size_of(model: Model, grid: Grid | None) -> tuple[int, int]:
  """(height, width) of images with that grid; any small one if there is no grid."""
  if grid is None:
    # ResNets and fixed positions take every size: two tokens a side, or enough
    # pixels for the strides of a ResNet.
    grid = (2, 2) if model.options.patch_size else (64, 64)
  h, w = (g * s for g, s in zip(grid, model.strides, strict=True))
  return h, w


def resize(table: np.ndarray, old: Grid, new: Grid,
           matrix: Callable[[int, int], np.ndarray]) -> np.ndarray:
  """(1, prefix + h*w, D) for another grid; entries before the grid are kept.

  Args:
    table: positions, those of class and register tokens first.
    old: (h, w) of the table.
    new: (h, w) wanted.
    matrix: the method, from (new size, old size) to a matrix of that shape.
  """
  (h, w), D = old, table.shape[-1]
  prefix = table.shape[1] - h * w
  grid = table[0, prefix:].astype(np.float64).reshape(h, w, D)  # (h, w, D)
  rows, columns = (matrix(n, o) for n, o in zip(new, old, strict=True))
  grid = np.einsum('ih,jw,hwD->ijD', rows, columns, grid, optimize=True)
  grid = grid.reshape(1, -1, D).astype(table.dtype)  # (1, new h * new w, D)
  return np.concatenate([table[:, :prefix], grid], axis=1)


def linear(where: np.ndarray, old: int) -> np.ndarray:
  """(n, old) weights of linear interpolation at `where` (n,) among `old` samples."""
  low = np.minimum(np.floor(where).astype(int), old - 1)
  matrix = np.zeros((len(where), old))
  rows = np.arange(len(where))
  np.add.at(matrix, (rows, low), 1 - (where - low))
  np.add.at(matrix, (rows, np.minimum(low + 1, old - 1)), where - low)
  return matrix


def cubic_kernel(x: np.ndarray, a: float) -> np.ndarray:
  """Cubic convolution of Keys, 1981, zero from a distance of 2."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))
