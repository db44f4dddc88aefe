"""MLP-Mixer: MLPs across tokens and across channels, in turn.

Tolstikhin et al., 2021, https://arxiv.org/abs/2105.01601. Parameters carry the names
and shapes of the original release. Dims as in `vit.py`.
"""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.config.sections import ModelSection
from vit_jax.models import blocks, heads, patches
from vit_jax.models.model import Model

# (width, depth, MLP width across tokens, MLP width across channels); table 1.
SIZES = {
    'S': (512, 8, 256, 2048),
    'B': (768, 12, 384, 3072),
    'L': (1024, 24, 512, 4096),
    'H': (1280, 32, 640, 5120),
}
PATTERN = re.compile(r'Mixer-([A-Z])/([1-9]\d*)')


class MixerBlock(nn.Module):
  """x + MLP over the tokens, then x + MLP over the channels."""
  options: ModelSection

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    options = self.options
    across_tokens = dataclasses.replace(options, mlp_dim=options.token_mlp_dim)
    mlp = functools.partial(
        blocks.Mlp, kernel_init=nn.initializers.lecun_normal(),
        bias_init=nn.initializers.zeros)
    y = blocks.layer_norm(options, 'LayerNorm_0')(x).swapaxes(1, 2)  # (B, D, L)
    y = mlp(across_tokens, name='token_mixing')(y)
    x = x + y.swapaxes(1, 2)  # (B, L, D)
    y = blocks.layer_norm(options, 'LayerNorm_1')(x)
    return x + mlp(options, name='channel_mixing')(y)


class Mixer(Model):
  """An MLP-Mixer, of a name such as 'Mixer-B/16'."""
  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates); `train` changes nothing.

    Args:
      images: (B, H, W, 3) float in [-1, 1], of the size the parameters were made for.
      train: as for every model.

    Intermediates: 'patch_embedding' (B, h, w, D); 'block_00', ... (B, h*w, D);
    'encoder_norm' (B, h*w, D); 'pre_logits' (B, D); 'logits'.
    """
    del train
    options = self.options
    patches.check_images(images)
    images = patches.normalise(options, images)
    out = {'patch_embedding': patches.embed(options, images, 'stem')}
    B, h, w, D = out['patch_embedding'].shape
    x = out['patch_embedding'].reshape(B, h * w, D)  # (B, h*w, D), row by row
    for i in range(options.depth):
      x = MixerBlock(options, name=f'MixerBlock_{i}')(x)
      out[f'block_{i:02d}'] = x
    out['encoder_norm'] = blocks.layer_norm(options, 'pre_head_layer_norm')(x)
    out['pre_logits'] = jnp.mean(out['encoder_norm'], axis=1)
    out['logits'] = heads.classify(options, self.num_classes, out['pre_logits'])
    return out['logits'], out

  @property
  def strides(self) -> tuple[int, int]:
    return self.options.patch_size

  def flops(self, image_size: tuple[int, int]) -> int:
    options = self.options
    total, L = patches.flops(options, image_size, channels=3)
    D = options.width
    total += options.depth * (
        blocks.mlp_flops(D, L, options.token_mlp_dim)
        + blocks.mlp_flops(L, D, options.mlp_dim))
    return total + 2 * D * self.num_classes


def decode(variant: str) -> dict[str, Any] | None:
  """Options of a `Mixer` named 'Mixer-<size>/<patch>', or None."""
  match = PATTERN.fullmatch(variant)
  if not match or match[1] not in SIZES:
    return None
  names = ('width', 'depth', 'token_mlp_dim', 'mlp_dim')
  return dict(zip(names, SIZES[match[1]], strict=True)) | {
      'patch_size': (int(match[2]),) * 2}
