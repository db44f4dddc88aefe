"""From pixels, or from the feature map of a ResNet, to one vector per patch."""

import jax
import numpy as np
from flax import linen as nn

from vit_jax.config.sections import ModelSection


def check_images(images: jax.Array) -> None:
  """Raises a ValueError unless this is a batch of RGB images."""
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
        f'images have shape {tuple(images.shape)}; expected (batch, height, width, 3). '
        'Add the batch dim, or convert the images to RGB.')


def normalise(options: ModelSection, images: jax.Array) -> jax.Array:
  """From [-1, 1] to (p - pixel_mean) / pixel_std, for p in [0, 1]: (B, H, W, 3).

  A mean and a deviation of 0.5 are the identity, which costs nothing.
  """
  scale, shift = pixel_map(options)
  if (scale == 1).all() and not shift.any():
    return images
  return images * scale.astype(np.float32) + shift.astype(np.float32)


def pixel_map(options: ModelSection) -> tuple[np.ndarray, np.ndarray]:
  """(scale, shift) of `normalise`, float64 (3,) each."""
  mean, std = (np.asarray(x, np.float64)
               for x in (options.pixel_mean, options.pixel_std))
  return 0.5 / std, (0.5 - mean) / std


def embed(options: ModelSection, x: jax.Array, name: str) -> jax.Array:
  """One linear map of every patch: (B, H, W, channels) -> (B, h, w, D).

  The layer belongs to the model whose `__call__` asks; the patch size is that of a
  grid of pixels or features.
  """
  _check_grid(x.shape, options.patch_size)
  return nn.Conv(
      options.width, kernel_size=options.patch_size, strides=options.patch_size,
      padding='VALID', use_bias=options.patch_bias, dtype=options.dtype,
      param_dtype=options.param_dtype, name=name)(x)


def flops(
    options: ModelSection, grid: tuple[int, int], channels: int) -> tuple[int, int]:
  """(FLOPs of the embedding, number of patches) of a grid of pixels or features."""
  (h, w), (ph, pw) = grid, options.patch_size
  patches = (h // ph) * (w // pw)
  return 2 * patches * ph * pw * channels * options.width, patches


def _check_grid(shape: tuple[int, ...], patch_size: tuple[int, int]) -> None:
  ph, pw = patch_size
  _, H, W, channels = shape
  if H and W and not H % ph and not W % pw:
    return
  what = f'images are {H} x {W} pixels'
  if channels != 3:
    what = f"the ResNet's feature maps are {H} x {W}"
  raise ValueError(
      f'{what} (height x width); expected multiples of the patch size {ph} x {pw}. '
      f'Resize or crop the images, for example so that this is '
      f'{max(H // ph, 1) * ph} x {max(W // pw, 1) * pw}, or choose another patch size.')
