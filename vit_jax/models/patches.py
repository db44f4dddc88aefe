"""From pixels, or from the feature map of a ResNet, to one vector per patch."""

import jax
from flax import linen as nn


def check_images(images: jax.Array):
  """Raises a ValueError unless this is a batch of RGB images."""
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
        f'images have shape {tuple(images.shape)}; expected (batch, height, width, 3). '
        'Add the batch dim, or convert the images to RGB.')


def embed(model: nn.Module, x: jax.Array, name: str, use_bias: bool = True):
  """One linear map of every patch: (B, H, W, channels) -> (B, h, w, D).

  The layer belongs to the model whose `__call__` asks; its `patch_size` is that of
  a grid of pixels or features.
  """
  _check_grid(x.shape, model.patch_size)
  return nn.Conv(
      model.width, kernel_size=model.patch_size, strides=model.patch_size,
      padding='VALID', use_bias=use_bias, dtype=model.dtype,
      param_dtype=model.param_dtype, name=name)(x)


def _check_grid(shape, patch_size):
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
