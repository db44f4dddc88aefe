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

from vit_jax.models import blocks, heads, patches

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
  config: blocks.BlockConfig
  token_mlp_dim: int

  @nn.compact
  def __call__(self, x):
    config = self.config
    across_tokens = dataclasses.replace(config, mlp_dim=self.token_mlp_dim)
    mlp = functools.partial(
        blocks.Mlp, kernel_init=nn.initializers.lecun_normal(),
        bias_init=nn.initializers.zeros)
    y = config.layer_norm('LayerNorm_0')(x).swapaxes(1, 2)  # (B, D, L)
    y = mlp(across_tokens, name='token_mixing')(y)
    x = x + y.swapaxes(1, 2)  # (B, L, D)
    y = config.layer_norm('LayerNorm_1')(x)
    return x + mlp(config, name='channel_mixing')(y)


class Mixer(nn.Module):
  """An MLP-Mixer; `vit_jax.create` builds one from a name such as 'Mixer-B/16'."""
  patch_size: tuple[int, int]  # (height, width)
  width: int
  depth: int
  token_mlp_dim: int  # MLP width across tokens
  mlp_dim: int  # MLP width across channels
  num_classes: int = 0  # 0: no head
  head_bias_init: float = 0.0
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'  # or 'exact', 'quick'
  dtype: Any = jnp.float32  # of the computation
  param_dtype: Any = jnp.float32

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
    patches.check_images(images)
    config = blocks.BlockConfig(
        num_heads=1, mlp_dim=self.mlp_dim, layer_norm_eps=self.layer_norm_eps,
        gelu=self.gelu, dtype=self.dtype, param_dtype=self.param_dtype)
    out = {'patch_embedding': patches.embed(self, images, 'stem')}
    B, h, w, D = out['patch_embedding'].shape
    x = out['patch_embedding'].reshape(B, h * w, D)  # (B, h*w, D), row by row
    for i in range(self.depth):
      x = MixerBlock(config, self.token_mlp_dim, name=f'MixerBlock_{i}')(x)
      out[f'block_{i:02d}'] = x
    out['encoder_norm'] = config.layer_norm('pre_head_layer_norm')(x)
    out['pre_logits'] = jnp.mean(out['encoder_norm'], axis=1)
    out['logits'] = heads.classify(self, out['pre_logits'])
    return out['logits'], out


def decode(variant: str) -> dict | None:
  """Fields of a `Mixer` named 'Mixer-<size>/<patch>', or None."""
  match = PATTERN.fullmatch(variant)
  if not match or match[1] not in SIZES:
    return None
  names = ('width', 'depth', 'token_mlp_dim', 'mlp_dim')
  return dict(zip(names, SIZES[match[1]], strict=True)) | {
      'patch_size': (int(match[2]),) * 2}
