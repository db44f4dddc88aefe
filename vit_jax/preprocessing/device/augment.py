"""The accelerator's part of the preprocessing, inside the jitted step.

Means the same as `vit_jax.preprocessing.host.ops`: both follow tf.image, whose pixels
and random crops the published checkpoints were trained on. `placement.OPERATIONS` says
what one of the two does alone; the accelerator's part of that is done to augmented and
cached images alike. All randomness of a batch is one array of uniform draws, a row per
example: it does not depend on how the batch is sharded, and every further call of
jax.random would add 0.2 s to the compilation.
"""

import jax
import jax.numpy as jnp

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing import placement
from vit_jax.preprocessing.device import colour, erasing
from vit_jax.preprocessing.device import crop as crops
from vit_jax.preprocessing.device.resize import resize

# Uniform draws per example for each operation, in the order of their columns. Those
# of what the accelerator alone does are there only where any of it is wanted.
_DRAWS = {
    'flip': 1,
    'crop': crops.DRAWS,
    'jitter': colour.JITTER_DRAWS,
    'greyscale': 1,
    'erase': erasing.DRAWS,
}


def train_images(images: jax.Array, key: jax.Array, remaining: PreprocessSection,
                 image_size: tuple[int, int],
                 value_range: tuple[float, float]) -> jax.Array:
  """Augmented float32 images (B, *image_size, 3) of uint8 images (B, h, w, 3).

  Args:
    images: as the input pipeline yields them, the global batch.
    key: of this step.
    remaining: what the pipeline left to do.
    image_size: (height, width) of the model input.
    value_range: what 0 and 255 become.
  """
  noise_key = key
  if remaining.erase and remaining.erase_fill == 'noise':
    key, noise_key = jax.random.split(key)
  draws = _draw(key, len(images), remaining)
  images = _resized(images.astype(jnp.float32), remaining)
  images = crops.crop(images, draws['crop'], remaining, image_size)
  if remaining.flip:
    flip = draws['flip'][:, 0] < .5
    images = jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
  images = _in_bounds(images, remaining)
  if remaining.jitter:
    images = colour.jitter(
        images, draws['jitter'], remaining.jitter, remaining.jitter_probability)
  if remaining.greyscale:
    images = colour.random_greyscale(
        images, draws['greyscale'][:, 0], remaining.greyscale)
  images = _in_range(images, value_range)
  if remaining.erase:
    images = erasing.erase(images, draws['erase'], noise_key, remaining, value_range)
  return images


def eval_images(images: jax.Array, remaining: PreprocessSection,
                image_size: tuple[int, int],
                value_range: tuple[float, float]) -> jax.Array:
  """Float32 images (B, *image_size, 3) of uint8 images; nothing is random.

  Raises ValueError where `remaining` has anything random.
  """
  if found := placement.random_settings(remaining):
    raise ValueError(f'Evaluation cannot use {found}, expected nothing random; change '
                     'config.data.eval.')
  images = _resized(images.astype(jnp.float32), remaining)
  images = crops.crop(images, None, remaining, image_size)
  return _in_range(_in_bounds(images, remaining), value_range)


def _draw(key: jax.Array, batch_size: int,
          section: PreprocessSection) -> dict[str, jax.Array]:
  """(B, its number) draws for every operation, uniform in [0, 1)."""
  late = [name for name in _DRAWS if placement.OPERATIONS[name].side == 'device']
  counts = _DRAWS
  if not any(getattr(section, name) for name in late):
    counts = {name: count for name, count in _DRAWS.items() if name not in late}
  draws = jax.random.uniform(key, (batch_size, sum(counts.values())))
  found, start = {}, 0
  for name, count in counts.items():
    found[name] = draws[:, start:start + count]
    start += count
  return found


def _resized(images: jax.Array, section: PreprocessSection) -> jax.Array:
  if section.resize:
    images = resize(images, section.resize, section.method, section.antialias)
  if section.resize_small:
    size = placement.small_size(images.shape[1:3], section.resize_small)
    images = resize(images, size, section.method, section.antialias)
  return images


def _in_bounds(images: jax.Array, section: PreprocessSection) -> jax.Array:
  # Bicubic overshoots; the host's uint8 cannot.
  return images.clip(0, 255) if section.method == 'bicubic' else images


def _in_range(images: jax.Array, value_range: tuple[float, float]) -> jax.Array:
  low, high = value_range
  return images * ((high - low) / 255) + low
