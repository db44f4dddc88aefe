"""Resizing on the accelerator, with the pixels of tf.image.resize.

As products with matrices and not gathers: on a TPU a resize is then two small matrix
products.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vit_jax.config.sections import PreprocessSection

# (top, left, height, width), numbers or arrays of them.
Windows = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def resize(images: jax.Array, size: Sequence[int], method: str,
           antialias: bool) -> jax.Array:
  """Images (B, h, w, c) at another size (height, width)."""
  if tuple(images.shape[1:3]) == tuple(size):
    return images
  rows, columns = (
      resize_weights(0., float(have), have, want, method, antialias)
      for have, want in zip(images.shape[1:3], size, strict=True))
  images = jnp.einsum('BhwC,Hh->BHwC', images, rows, precision='highest')
  return jnp.einsum('BHwC,Ww->BHWC', images, columns, precision='highest')


def resize_windows(images: jax.Array, windows: Windows, size: Sequence[int],
                   section: PreprocessSection) -> jax.Array:
  """A window of each image at one size; `windows` are arrays (B,)."""
  top, left, height, width = windows
  def weights(start: jax.Array, length: jax.Array, have: int, want: int) -> jax.Array:
    return jax.vmap(lambda s, n: resize_weights(
        s, n, have, want, section.method, section.antialias))(start, length)
  rows = weights(top, height, images.shape[1], size[0])
  columns = weights(left, width, images.shape[2], size[1])
  images = jnp.einsum('BhwC,BHh->BHwC', images, rows, precision='highest')
  return jnp.einsum('BHwC,BWw->BHWC', images, columns, precision='highest')


def resize_weights(start: jax.Array | float, length: jax.Array | float, have: int,
                   want: int, method: str, antialias: bool) -> jax.Array:
  """(want, have) weights that resize pixels start..start+length of a line of `have`.

  Only pixels inside the window count, as if it had been cut out first.
  """
  scale = length / want
  pixel = jnp.arange(have, dtype=jnp.float32)[None, :]
  out = jnp.arange(want, dtype=jnp.float32)[:, None]
  if method == 'area':
    # Overlap of [out, out + 1) * scale with each pixel.
    low, high = start + out * scale, start + (out + 1) * scale
    weight = jnp.clip(jnp.minimum(high, pixel + 1) - jnp.maximum(low, pixel), 0)
  else:
    stretch = jnp.maximum(scale, 1.) if antialias else 1.
    centre = start + (out + .5) * scale - .5
    kernel = {'bilinear': _triangle, 'bicubic': _keys}[method]
    weight = kernel(jnp.abs(pixel - centre) / stretch)
  inside = (pixel >= start) & (pixel < start + length)
  weight = jnp.where(inside, weight, 0.)
  return weight / weight.sum(1, keepdims=True)


def _triangle(x: jax.Array) -> jax.Array:
  return jnp.maximum(1 - x, 0)


def _keys(x: jax.Array) -> jax.Array:
  """Cubic convolution with a = -1/2 (Keys, 1981)."""
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.))
