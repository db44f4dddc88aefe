"""Image classification: the objective of the step and the sums of evaluation."""

import jax
import jax.numpy as jnp

from vit_jax.config.sections import Config
from vit_jax.objectives import losses
from vit_jax.preprocessing.device import augment
from vit_jax.preprocessing.device.mixing import mix


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
        batch['label'], num_classes, config.loss.label_smoothing, config.loss.name)
    if config.mixup.alpha or config.mixup.cutmix_alpha:
      images, targets = mix(mixup_key, images, targets, config.mixup)
    examples = {'image': images, 'target': targets}
    if batch['label'].ndim > 1:
      # Soft targets no longer tell which classes an example had of its own.
      examples['label'] = batch['label']
    return examples
  return prepare


def make_objective(model, loss_fn):
  """`(params, examples, key) -> (loss, metrics)` for `step.make_train_step`."""
  def objective(params, examples, key):
    logits, _ = model.apply(
        {'params': params}, examples['image'], train=True, rngs={'dropout': key})
    targets = examples['target']
    loss = loss_fn(logits, targets).mean()
    if 'label' in examples:
      hits, labelled = top_is_label(logits, examples['label'])
      return loss, {'accuracy': hits.sum() / jnp.maximum(labelled.sum(), 1.0)}
    hits = logits.argmax(-1) == targets.argmax(-1)
    return loss, {'accuracy': hits.mean(dtype=jnp.float32)}
  return objective


def top_is_label(logits: jax.Array, labels: jax.Array):
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


def make_eval_step(model, config: Config, remaining, num_classes: int):
  """`(params, batch) -> sums` over the examples whose mask is True.

  `seen` counts those, `count` the ones with a label: `loss` and `correct` are sums
  over the latter.
  """
  loss_fn = losses.create(config.loss)

  def eval_step(params, batch):
    logits = predict(model, params, batch['image'], config, remaining)
    targets = losses.targets(batch['label'], num_classes, name=config.loss.name)
    hits, labelled = top_is_label(logits, batch['label'])
    scored = batch['mask'] & labelled
    return {
        'loss': jnp.where(scored, loss_fn(logits, targets), 0.0).sum(),
        'correct': (hits & scored).sum(),
        'count': scored.sum(),
        'seen': batch['mask'].sum(),
    }
  return eval_step


def predict(model, params, images_u8, config: Config, remaining):
  """Logits (B, C) of uint8 images as the input pipeline yields them."""
  images = augment.eval_images(
      images_u8, remaining, config.data.image_size, config.data.value_range)
  logits, _ = model.apply({'params': params}, images, train=False)
  return logits
