"""Classification losses; targets are (B, C) weights of the classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import sections
from vit_jax.config.settings import check_values


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """-sum_C(targets * log softmax(logits)); (B, C), (B, C) -> (B,)."""
  return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Binary cross-entropy of each class, summed; (B, C), (B, C) -> (B,).

  The sum, not the mean, over classes: the gradient of a logit then does not
  depend on the number of classes (https://arxiv.org/abs/2006.07159).
  """
  every_class = optax.sigmoid_binary_cross_entropy(
    logits.astype(jnp.float32), targets)
  return every_class.sum(-1)


LOSSES = {'softmax': softmax_cross_entropy, 'sigmoid': sigmoid_cross_entropy}


def targets(
  labels: jax.Array, num_classes: int, smoothing: float = 0.0, name: str = 'softmax'
) -> jax.Array:
  """Weights of the classes, (B, C) float32, for the loss `name`.

  Labels are (B,) integers: (1 - smoothing) * one_hot + smoothing / C. Label smoothing
  as in https://arxiv.org/abs/1512.00567 section 7. The same targets serve the sigmoid
  loss, where a wrong class thus has smoothing / C (https://arxiv.org/abs/2110.00476),
  not the smoothing / 2 of a two-way choice, which would add up to much more than the
  right class has. A label outside [0, C) has an all-zero one-hot row.

  Or they are (B, K), sets of up to K different classes filled up with -1. For the
  sigmoid loss every class of the set takes the place of the one; for softmax, whose
  targets are a distribution, each of k classes has 1 / k of it
  (https://arxiv.org/abs/1805.00932). Without any label a softmax row is
  all zeros, smoothing or not, and the example does not count in the loss; for the
  sigmoid it says that no class is there.
  """
  classes = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
  if labels.ndim == 1:
    return optax.smooth_labels(classes, smoothing) if smoothing else classes
  classes = classes.sum(-2)  # (B, K, C) -> (B, C)
  if name == 'softmax':
    count = classes.sum(-1, keepdims=True)
    classes = classes / jnp.maximum(count, 1.0)
    share = jnp.where(count > 0, smoothing, 0.0)
  else:
    share = smoothing
  return (1.0 - share) * classes + share / num_classes


def create(
  section: sections.LossSection,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The loss `logits, targets -> (B,)` that the section names."""
  check_values(section, 'loss.')
  return LOSSES[section.name]
