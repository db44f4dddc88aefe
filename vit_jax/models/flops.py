"""Arithmetic of a model: its forward FLOPs and its parameters, from shapes alone."""

import functools
import math

import jax

from vit_jax.models import layout, vit


def forward_flops(model: vit.ViT, image_size: tuple[int, int]) -> int:
  """FLOPs of one (height, width) image's forward pass.

  Counts matrix products alone, a multiply-add as 2: patch embedding, projections,
  attention scores and weighted values, MLPs, pooling and head. Norms, softmax, GELU,
  biases and residuals are left out: a few percent of the operations of B/16, and none
  of them uses the matrix unit, whose peak utilisation is measured against. A backward
  pass costs twice this.
  """
  ph, pw = model.patch_size
  D, F, patches = model.width, model.mlp_dim, math.prod(_grid(model, image_size))
  L = patches + model.registers + (model.pool == 'token')

  total = 2 * patches * (ph * pw * 3) * D
  total += model.depth * (_attention(L, L, D) + _mlp(L, D, F))
  if model.pool == 'map':
    total += _attention(1, patches, D) + _mlp(1, D, F)
  vectors = L if model.pool == 'none' else 1
  R = model.representation_size
  total += 2 * vectors * (D * R + (R or D) * model.num_classes)
  return total


def parameter_count(model: vit.ViT, image_size: tuple[int, int]) -> int:
  """Number of parameters for (height, width) images; allocates nothing."""
  init = functools.partial(layout.init, model.clone(scan=True), image_size=image_size)
  shapes = jax.eval_shape(init, jax.random.key(0))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def _grid(model, image_size):
  H, W = image_size
  ph, pw = model.patch_size
  return H // ph, W // pw


def _attention(queries: int, L: int, D: int) -> int:
  projections = 2 * D * D * (2 * queries + 2 * L)  # q and out, k and v
  return projections + 2 * 2 * queries * L * D  # scores, weighted values


def _mlp(L: int, D: int, F: int) -> int:
  return 2 * 2 * L * D * F
