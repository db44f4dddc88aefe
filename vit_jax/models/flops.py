"""Arithmetic of a model: its forward FLOPs and its parameters, from shapes alone."""

import functools
import math

import jax
from flax import linen as nn

from vit_jax.models import bit, layout, mixer, vit


def forward_flops(model: nn.Module, image_size: tuple[int, int]) -> int:
  """FLOPs of one (height, width) image's forward pass.

  Counts matrix products and convolutions alone, a multiply-add as 2: patch embedding,
  projections, attention scores and weighted values, MLPs, pooling and head. Norms,
  softmax, GELU, biases and residuals are left out: a few percent of the operations of
  B/16, and none of them uses the matrix unit, whose peak utilisation is measured
  against. A backward pass costs twice this.
  """
  counts = {vit.ViT: _vit, mixer.Mixer: _mixer, bit.BiT: _bit}
  return counts[type(model)](model, image_size)


def parameter_count(model: nn.Module, image_size: tuple[int, int]) -> int:
  """Number of parameters for (height, width) images; allocates nothing."""
  if isinstance(model, vit.ViT):
    model = model.clone(scan=True)  # traces one block instead of all
  init = functools.partial(layout.init, model, image_size=tuple(image_size))
  shapes = jax.eval_shape(init, jax.random.key(0))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def _vit(model, image_size):
  total, grid, channels = 0, image_size, 3
  if model.resnet_width:
    total, grid, channels = _resnet(model, image_size)
  D, F = model.width, model.mlp_dim
  embedding, patches = _patches(model, grid, channels)
  L = patches + model.prefix_length
  total += embedding + model.depth * (_attention(L, L, D) + _mlp(L, D, F))
  if model.pool == 'map':
    total += _attention(1, patches, D) + _mlp(1, D, F)
  vectors = L if model.pool == 'none' else 1
  R = model.representation_size
  return total + 2 * vectors * (D * R + (R or D) * model.num_classes)


def _mixer(model, image_size):
  total, patches = _patches(model, image_size, 3)
  D = model.width
  total += model.depth * (
      _mlp(D, patches, model.token_mlp_dim) + _mlp(patches, D, model.mlp_dim))
  return total + 2 * D * model.num_classes


def _bit(model, image_size):
  total, _, channels = _resnet(model, image_size)
  return total + 2 * channels * model.num_classes


def _resnet(model, image_size):
  """(FLOPs, grid, channels) of the last feature map."""
  h, w = (-(-size // 2) for size in image_size)
  channels = model.resnet_width
  total = 2 * h * w * 7 * 7 * 3 * channels
  h, w = -(-h // 2), -(-w // 2)
  for b, units in enumerate(model.resnet_blocks):
    mid = model.resnet_width * 2**b
    for u in range(units):
      before = h * w
      if b and not u:
        h, w = -(-h // 2), -(-w // 2)
      kernels = 9 * mid * mid + 4 * mid * mid  # the second convolution and the third
      if not u:  # a projection of the input
        kernels += channels * 4 * mid
      total += 2 * (before * channels * mid + h * w * kernels)
      channels = 4 * mid
  return total, (h, w), channels


def _patches(model, grid, channels):
  """(FLOPs of the embedding, number of patches)."""
  (h, w), (ph, pw) = grid, model.patch_size
  patches = (h // ph) * (w // pw)
  return 2 * patches * ph * pw * channels * model.width, patches


def _attention(queries: int, L: int, D: int) -> int:
  projections = 2 * D * D * (2 * queries + 2 * L)  # q and out, k and v
  return projections + 2 * 2 * queries * L * D  # scores, weighted values


def _mlp(L: int, D: int, F: int) -> int:
  return 2 * 2 * L * D * F
