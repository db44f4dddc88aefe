"""Position embeddings of a grid of patches."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.config.sections import ModelSection


def sincos2d(h: int, w: int, width: int, temperature: float = 10_000.0) -> np.ndarray:
  """Fixed embedding of an h x w grid, row by row: (h * w, width), float32.

  One quarter of the width each for sin and cos of the column, then of the row, at
  frequencies from 1 down to 1 / temperature: the MoCo v3 form of the encoding of
  https://arxiv.org/abs/1706.03762, as in https://arxiv.org/abs/2205.01580.
  """
  if width % 4:
    raise ValueError(
        f'position_embedding sincos2d with width {width}: expected a width divisible '
        'by 4 (sin and cos of rows and columns). Change the width, or use '
        "position_embedding 'learned'.")
  quarter = width // 4
  # A single frequency (width 4) is 1; the general formula would divide by zero.
  omega = temperature ** -(np.arange(quarter) / max(quarter - 1, 1))
  rows, columns = np.mgrid[:h, :w]
  x = np.outer(columns.ravel(), omega)  # (h * w, D / 4)
  y = np.outer(rows.ravel(), omega)
  return np.concatenate(
      [np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)


class Positions(nn.Module):
  """The embedding (1, prefix + h * w, D) of `prefix` tokens and then the patches.

  Learned entries of the prefix (class token, registers) are part of the same array, as
  in the published files; in the fixed form they are zero.
  """
  options: ModelSection
  prefix: int

  @nn.compact
  def __call__(self, h: int, w: int, width: int) -> jax.Array:
    if self.options.position_embedding == 'sincos2d':
      table = np.pad(sincos2d(h, w, width), ((self.prefix, 0), (0, 0)))
      return jnp.asarray(table)[None]
    shape = (1, self.prefix + h * w, width)
    if self.has_variable('params', 'pos_embedding'):
      given = self.get_variable('params', 'pos_embedding').shape
      if tuple(given) != shape:
        raise ValueError(
            f'pos_embedding has shape {tuple(given)}, but images of {h} x {w} patches '
            f'need {shape}: the parameters belong to another image size, patch size '
            'or pooling. Resize the embedding when loading them, or give images of '
            'the size they were made for.')
    return self.param(
        'pos_embedding', nn.initializers.normal(0.02), shape,
        self.options.param_dtype)
