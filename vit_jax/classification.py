"""Image classification: the objective of the step and the sums of evaluation."""

import jax
import jax.numpy as jnp

from vit_jax import augment, losses
from vit_jax.mixup import mixup
from vit_jax.sections import Config


def make_prepare(config: Config, remaining, num_classes: int):
  """`(batch, key) -> examples`: augmented images and soft targets.

  Args:
    config: the run's configuration.
    remaining: the preprocessing that the input pipeline left to the accelerator.
    num_classes: width of the targets.
  """
  def prepare(batch, key):
    augment_key, mixup_key = jax.random.split(key)
    images = augment.train_images(
        batch['image'], augment_key, remaining, config.data.image_size,
        config.data.value_range)
    targets = losses.targets(
        batch['label'], num_classes, config.loss.label_smoothing)
    if config.mixup.alpha:
      images, targets = mixup(mixup_key, images, targets, config.mixup.alpha)
    return {'image': images, 'target': targets}
  return prepare


def make_objective(model, loss_fn):
  """`(params, examples, key) -> (loss, metrics)` for `step.make_train_step`."""
  def objective(params, examples, key):
    logits, _ = model.apply(
        {'params': params}, examples['image'], train=True, rngs={'dropout': key})
    targets = examples['target']
    loss = loss_fn(logits, targets).mean()
    hits = logits.argmax(-1) == targets.argmax(-1)
    return loss, {'accuracy': hits.mean(dtype=jnp.float32)}
  return objective


def make_eval_step(model, config: Config, remaining, num_classes: int):
  """`(params, batch) -> sums` over the examples whose mask is True."""
  loss_fn = losses.create(config.loss)

  def eval_step(params, batch):
    logits = predict(model, params, batch['image'], config, remaining)
    targets = losses.targets(batch['label'], num_classes)
    mask = batch['mask']
    hits = (logits.argmax(-1) == batch['label']) & mask
    return {
        'loss': jnp.where(mask, loss_fn(logits, targets), 0.0).sum(),
        'correct': hits.sum(),
        'count': mask.sum(),
    }
  return eval_step


def predict(model, params, images_u8, config: Config, remaining):
  """Logits (B, C) of uint8 images as the input pipeline yields them."""
  images = augment.eval_images(
      images_u8, remaining, config.data.image_size, config.data.value_range)
  logits, _ = model.apply({'params': params}, images, train=False)
  return logits
