"""Image classification: what it minimises, and accuracy and loss of a split.

Dims: B examples of a batch, C classes, K labels of an example at most.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.config.sections import Config, PreprocessSection
from vit_jax.models.model import Model
from vit_jax.objectives import losses
from vit_jax.objectives.objective import Direction, Labels
from vit_jax.preprocessing.device import augment
from vit_jax.preprocessing.device.mixing import mix
from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Classification:
  """`config.loss` of the model's head, on augmented and mixed images.

  See `objective.Objective`. Accuracy and loss of a split are means over the images
  with a label, which are all but for sets of labels (`config.data.max_labels`); there,
  each label of an image is right, and those without any are counted.
  """
  config: Config
  model: Model
  num_classes: int
  remaining: PreprocessSection

  shown: ClassVar[Mapping[str, str]] = {'loss': '.4f', 'accuracy': '.4f'}
  metrics: ClassVar[Mapping[str, Direction]] = {'accuracy': 'max', 'loss': 'min'}
  labels: ClassVar[tuple[Labels, ...]] = ('class', 'set')

  @staticmethod
  def check(config: Config) -> None:
    losses.create(config.loss)

  @staticmethod
  def num_outputs(config: Config, num_classes: int) -> int:
    del config
    return num_classes

  def prepare(self, batch: Mapping[str, jax.Array],
              key: jax.Array) -> dict[str, jax.Array]:
    """Augmented images and soft targets; with sets of labels, these as well."""
    config = self.config
    augment_key, mixup_key = jax.random.split(key)
    images = augment.train_images(
        batch['image'], augment_key, self.remaining, config.data.image_size,
        config.data.value_range)
    targets = losses.targets(
        batch['label'], self.num_classes, config.loss.label_smoothing,
        config.loss.name)
    if config.mixup.alpha or config.mixup.cutmix_alpha:
      images, targets = mix(mixup_key, images, targets, config.mixup)
    examples = {'image': images, 'target': targets}
    if batch['label'].ndim > 1:
      # Soft targets no longer tell which classes an example had of its own.
      examples['label'] = batch['label']
    return examples

  def loss(self, params: Any, examples: Mapping[str, jax.Array],
           key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    logits, _ = self.model.apply(
        {'params': params}, examples['image'], train=True, rngs={'dropout': key})
    targets = examples['target']
    loss = losses.create(self.config.loss)(logits, targets).mean()
    if 'label' in examples:
      hits, labelled = top_is_label(logits, examples['label'])
      return loss, {'accuracy': hits.sum() / jnp.maximum(labelled.sum(), 1.0)}
    hits = logits.argmax(-1) == targets.argmax(-1)
    return loss, {'accuracy': hits.mean(dtype=jnp.float32)}

  def eval_step(self, params: Any,
                batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """'count' examples have a label: 'loss' and 'correct' are sums over them."""
    config = self.config
    logits = self.logits(params, batch['image'])
    targets = losses.targets(batch['label'], self.num_classes, name=config.loss.name)
    hits, labelled = top_is_label(logits, batch['label'])
    scored = batch['mask'] & labelled
    loss = losses.create(config.loss)(logits, targets)
    return {
        'loss': jnp.where(scored, loss, 0.0).sum(),
        'correct': (hits & scored).sum(),
        'count': scored.sum(),
        'seen': batch['mask'].sum(),
    }

  def summarise(self, sums: Mapping[str, float], split: str) -> dict[str, float]:
    if not sums['count']:
      raise UserError(
          f'No image of {split} has a label, so there is nothing to measure; give a '
          'split with labels.')
    measured = {'accuracy': float(sums['correct'] / sums['count']),
                'loss': float(sums['loss'] / sums['count'])}
    unlabelled = int(sums['seen'] - sums['count'])
    return measured | ({'unlabelled_records': unlabelled} if unlabelled else {})

  def logits(self, params: Any, images: jax.Array) -> jax.Array:
    """(B, C) of uint8 images as the input pipeline yields them for evaluation."""
    data = self.config.data
    images = augment.eval_images(
        images, self.remaining, data.image_size, data.value_range)
    logits, _ = self.model.apply({'params': params}, images, train=False)
    return logits

  def probabilities(self, logits: np.ndarray) -> np.ndarray:
    """(B, C) float64, of the classes, for logits trained with `config.loss`."""
    logits = logits.astype(np.float64)
    if self.config.loss.name == 'sigmoid':
      return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def top_is_label(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether the most likely class is the label, or one of the labels.

  Args:
    logits: (B, C).
    labels: (B,) classes, or (B, K) sets of classes filled up with -1.

  Returns:
    (B,) bools: right; and whether there is a label at all, without which an example
    is neither right nor wrong (https://arxiv.org/abs/2006.07159).
  """
  labels = labels.reshape(len(labels), -1)  # (B, K)
  top = logits.argmax(-1)
  return (labels == top[:, None]).any(-1), (labels >= 0).any(-1)
