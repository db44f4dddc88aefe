"""What is to be predicted of a patch: its colour, its colours or its pixels.

Dims: B images of H x W pixels, L patches of P = height x width pixels.
"""

import jax
import jax.numpy as jnp

BITS = 3  # of every channel
COLOURS = 2 ** (3 * BITS)  # of three channels
CELLS = 4  # along each side of a patch, of the target 'colours'


def num_outputs(target: str, patch_size: tuple[int, int]) -> int:
  """Width of the head: logits of the colours, or the pixels themselves."""
  height, width = patch_size
  return {'mean_colour': COLOURS, 'colours': CELLS * CELLS * COLOURS,
          'pixels': 3 * height * width}[target]


def patches(images: jax.Array, patch_size: tuple[int, int]) -> jax.Array:
  """(B, H, W, 3) -> (B, L, height, width, 3), row by row."""
  (B, H, W, channels), (height, width) = images.shape, patch_size
  grid = images.reshape(B, H // height, height, W // width, width, channels)
  return grid.swapaxes(2, 3).reshape(B, -1, height, width, channels)


def mean_colour(pixels: jax.Array) -> jax.Array:
  """Mean over the two dims before the channels, in 3 bits each, as one number.

  (..., height, width, 3) in [0, 1] -> (...,) int32 below 512: 64 red + 8 green + blue.
  The bits are the highest of a mean in 0..255.
  """
  # Whole means come out of the images' float32 range slightly too low or too high.
  means = pixels.mean(axis=(-3, -2)) * 255 + 1e-3
  levels = jnp.floor(means / 2 ** (8 - BITS)).astype(jnp.int32)
  red, green, blue = jnp.moveaxis(levels.clip(0, 2 ** BITS - 1), -1, 0)
  return (red * 2 ** BITS + green) * 2 ** BITS + blue


def colours(pixels: jax.Array) -> jax.Array:
  """`mean_colour` of 4 x 4 cells: (B, L, height, width, 3) -> (B, L, 16), by rows."""
  B, L, height, width, channels = pixels.shape
  cells = pixels.reshape(
      B, L, CELLS, height // CELLS, CELLS, width // CELLS, channels)
  return mean_colour(cells.swapaxes(3, 4)).reshape(B, L, CELLS * CELLS)
