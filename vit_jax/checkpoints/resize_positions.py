"""Position embeddings for another grid of patches, by the methods of three worlds.

All of them interpolate rows and columns one after the other, so a method is a matrix
(new size, old size) per dimension. They give clearly different embeddings: on noise
of variance 1 by 0.2 to 0.4 root mean square. Only the method that a model was
converted or published with reproduces its outputs.
"""

import numpy as np

from vit_jax.runtime.errors import UserError


def resize(
    table: np.ndarray, old: tuple[int, int], new: tuple[int, int], method: str
) -> np.ndarray:
  """(1, prefix + h*w, D) for another grid; entries before the grid are kept.

  Args:
    table: positions, those of class and register tokens first.
    old: (h, w) of the table.
    new: (h, w) wanted.
    method: key of `METHODS`.
  """
  check_method(method)
  (h, w), D = old, table.shape[-1]
  prefix = table.shape[1] - h * w
  grid = table[0, prefix:].astype(np.float64).reshape(h, w, D)  # (h, w, D)
  rows, columns = (METHODS[method](n, o) for n, o in zip(new, old, strict=True))
  grid = np.einsum('ih,jw,hwD->ijD', rows, columns, grid, optimize=True)
  grid = grid.reshape(1, -1, D).astype(table.dtype)  # (1, new h * new w, D)
  return np.concatenate([table[:, :prefix], grid], axis=1)


def check_method(method: str):
  if method not in METHODS:
    raise UserError(
        f'position_resize is {method!r}; expected one of {", ".join(METHODS)}.')


def _corners_aligned(new, old):
  """Linear; first and last samples coincide: scipy.ndimage.zoom with order 1."""
  where = np.arange(new) * ((old - 1) / max(new - 1, 1))
  return _linear(where, old)


def _half_pixel(new, old):
  """Linear between pixel centres, never antialiased."""
  where = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
  return _linear(where, old)


def _linear(where, old):
  low = np.minimum(np.floor(where).astype(int), old - 1)
  matrix = np.zeros((len(where), old))
  rows = np.arange(len(where))
  np.add.at(matrix, (rows, low), 1 - (where - low))
  np.add.at(matrix, (rows, np.minimum(low + 1, old - 1)), where - low)
  return matrix


def _cubic(new, old):
  """Four taps with a = -0.75, repeated edges, no antialiasing: PyTorch's bicubic."""
  where = (np.arange(new) + 0.5) * old / new - 0.5
  low = np.floor(where).astype(int)
  matrix = np.zeros((new, old))
  for tap in (-1, 0, 1, 2):
    weight = _keys(where - low - tap, -0.75)
    np.add.at(matrix, (np.arange(new), np.clip(low + tap, 0, old - 1)), weight)
  return matrix


def _cubic_antialiased(new, old):
  """Cubic with a = -0.5, widened when shrinking: PyTorch's with antialias=True."""
  scale = max(old / new, 1)
  centre = (np.arange(new) + 0.5) * old / new
  matrix = _keys((np.arange(old) + 0.5 - centre[:, None]) / scale, -0.5)
  return matrix / matrix.sum(axis=1, keepdims=True)


def _keys(x, a):
  """The cubic convolution kernel of Keys, 1981, zero from a distance of 2."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))


# Name -> matrix (new size, old size).
METHODS = {
    'original': _corners_aligned,  # vision_transformer and big_vision
    'hf': _cubic,  # Hugging Face with interpolate_pos_encoding=True
    'timm': _cubic_antialiased,  # timm's state dicts
    'timm_npz': _half_pixel,  # timm reading an npz of vision_transformer
}
