"""Masked patch prediction: colours or pixels of corrupted patches, without labels.

Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, appendix B.1.2.

Dims: B images, L patches of an image, C outputs of the head.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from vit_jax.config.sections import Config, PreprocessSection
from vit_jax.models import variants
from vit_jax.models.model import Model
from vit_jax.objectives import corruption, patch_targets
from vit_jax.objectives.objective import Direction, Labels
from vit_jax.preprocessing.device import augment
from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class MaskedPatches:
  """Predicts each corrupted patch from its own token, see `objective.Objective`.

  Accuracy is the share of right colours of corrupted patches; of the target 'pixels',
  of the mean colours of the predicted pixels.
  """
  config: Config
  model: Model
  num_classes: int
  remaining: PreprocessSection

  shown: ClassVar[Mapping[str, str]] = {'loss': '.4f', 'accuracy': '.4f'}
  metrics: ClassVar[Mapping[str, Direction]] = {'accuracy': 'max', 'loss': 'min'}
  labels: ClassVar[tuple[Labels, ...]] = ('none',)

  @staticmethod
  def check(config: Config) -> None:
    model, section = config.model, config.masked_patches
    if section.masked + section.replaced > 1:
      raise UserError(
          f'config.masked_patches has masked={section.masked} and '
          f'replaced={section.replaced}; their sum must be at most 1. Lower one.')
    if model.pool != 'none' or not model.mask_embedding:
      raise UserError(
          f"config.objective='masked_patches' got config.model.pool={model.pool!r} and "
          f'config.model.mask_embedding={model.mask_embedding}; it predicts from every '
          "token of a ViT. Set them to 'none' and True.")
    if config.mixup.alpha or config.mixup.cutmix_alpha:
      raise UserError(
          f'config.mixup is {config.mixup}; masked_patches mixes no images. Set alpha '
          'and cutmix_alpha to 0.')
    size = _patch_size(config)
    if section.target == 'colours' and any(x % patch_targets.CELLS for x in size):
      raise UserError(
          "config.masked_patches.target='colours' has 4 x 4 cells per patch, and the "
          f'patches of the model are {size[0]} x {size[1]} pixels. Choose patches of '
          'multiples of 4, or another target.')

  @staticmethod
  def num_outputs(config: Config, num_classes: int) -> int:
    del num_classes
    return patch_targets.num_outputs(config.masked_patches.target, _patch_size(config))

  def prepare(self, batch: Mapping[str, jax.Array],
              key: jax.Array) -> dict[str, jax.Array]:
    """Augmented images and the corruption of their patches."""
    augment_key, corruption_key = jax.random.split(key)
    data = self.config.data
    images = augment.train_images(
        batch['image'], augment_key, self.remaining, data.image_size,
        data.value_range)
    source, corrupted = corruption.corrupt(
        corruption_key, (len(images), self._num_patches), self.config.masked_patches)
    return {'image': images, 'source': source, 'corrupted': corrupted}

  def loss(self, params: Any, examples: Mapping[str, jax.Array],
           key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    loss, accuracy = self._measure(params, examples, train=True, key=key)
    return loss.mean(), {'accuracy': accuracy.mean()}

  def eval_step(self, params: Any,
                batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The corruption of an image depends on its pixels alone, not on its batch."""
    data, section = self.config.data, self.config.masked_patches
    images = augment.eval_images(
        batch['image'], self.remaining, data.image_size, data.value_range)
    checksums = batch['image'].astype(jnp.uint32).sum(axis=(1, 2, 3))

    def corrupt(checksum: jax.Array) -> tuple[jax.Array, jax.Array]:
      key = jax.random.fold_in(jax.random.key(0), checksum)
      source, corrupted = corruption.corrupt(key, (1, self._num_patches), section)
      return source[0], corrupted[0]
    source, corrupted = jax.vmap(corrupt)(checksums)
    examples = {'image': images, 'source': source, 'corrupted': corrupted}
    loss, accuracy = self._measure(params, examples, train=False)
    mask = batch['mask']
    return {'loss': jnp.where(mask, loss, 0.0).sum(),
            'accuracy': jnp.where(mask, accuracy, 0.0).sum(), 'seen': mask.sum()}

  def summarise(self, sums: Mapping[str, float], split: str) -> dict[str, float]:
    if not sums['seen']:
      raise UserError(f'{split} has no images, so there is nothing to measure; give '
                      'another split.')
    return {name: float(sums[name] / sums['seen']) for name in ('accuracy', 'loss')}

  def _measure(self, params: Any, examples: Mapping[str, jax.Array], train: bool,
               key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(loss, accuracy) of each image, (B,): means over its corrupted patches."""
    images, corrupted = examples['image'], examples['corrupted']
    rngs = None if key is None else {'dropout': key}
    out: Any = self.model.apply(
        {'params': params}, images, train=train, corruption=examples['source'],
        rngs=rngs)
    outputs = out[0][:, -self._num_patches:]  # (B, L, C), without class token
    low, high = self.config.data.value_range
    pixels = patch_targets.patches((images - low) / (high - low), self.model.strides)
    loss, right = _compare(self.config.masked_patches.target, outputs, pixels)
    count = corrupted.sum(axis=-1)
    def mean(x: jax.Array) -> jax.Array:
      return jnp.where(corrupted, x, 0.0).sum(axis=-1) / count
    return mean(loss), mean(right)

  @property
  def _num_patches(self) -> int:
    (height, width), (rows, columns) = self.config.data.image_size, self.model.strides
    return (height // rows) * (width // columns)


def _compare(target: str, outputs: jax.Array,
             pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(loss, share of right colours) of every patch, (B, L) each.

  Args:
    target: as in `config.masked_patches`.
    outputs: (B, L, C) of the head.
    pixels: (B, L, height, width, 3) in [0, 1].
  """
  if target == 'pixels':
    # The head's range is [-1, 1] as that of the usual images.
    predicted = outputs.reshape(pixels.shape)
    loss = jnp.square(predicted - (2 * pixels - 1)).mean(axis=(-3, -2, -1))
    right = (patch_targets.mean_colour((predicted + 1) / 2)
             == patch_targets.mean_colour(pixels))
    return loss, right.astype(jnp.float32)
  if target == 'colours':
    classes = patch_targets.colours(pixels)  # (B, L, 16)
  else:
    classes = patch_targets.mean_colour(pixels)[..., None]  # (B, L, 1)
  logits = outputs.reshape(*classes.shape, patch_targets.COLOURS)
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
  return loss.mean(axis=-1), (logits.argmax(-1) == classes).mean(
      axis=-1, dtype=jnp.float32)


def _patch_size(config: Config) -> tuple[int, int]:
  """(height, width) in pixels of what a token stands for."""
  # The same on every platform and for every head. Only a ViT has pool='none'.
  return variants.from_section(config.model, 0, 'cpu').strides
