"""ResNets as classifiers: BiT (version 2) and big_vision's GroupNorm ResNet (1)."""

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import heads, patches, resnet

# Depth -> units per block: https://arxiv.org/abs/1512.03385; 26 is half of 50, as in
# https://arxiv.org/abs/2010.11929.
DEPTHS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
PATTERN = re.compile(r'R(\d+)x([1-9]\d*)(-v1)?')


class BiT(nn.Module):
  """A ResNet with GroupNorm; `vit_jax.create` builds one from a name like 'R50x1'.

  Kolesnikov et al., 2020, https://arxiv.org/abs/1912.11370.
  """
  resnet_blocks: tuple[int, ...]  # units per block
  resnet_width: int = 64  # channels of the root; every block doubles the one before
  version: int = 2  # see `resnet`
  num_classes: int = 0  # 0: no head
  head_bias_init: float = 0.0
  group_norm_eps: float = 0.0  # 0: as the version's original code
  std_conv_eps: float = 0.0  # 0: as the version's original code
  std_conv_eps_form: str = 'auto'  # or 'add', 'sqrt'
  dtype: Any = jnp.float32  # of the computation
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates); `train` changes nothing.

    Intermediates: 'root', 'block1', ... (B, h, w, channels); 'pre_logits', the input
    of the head; 'logits'.
    """
    del train
    patches.check_images(images)
    config = resnet.ResNetConfig.of(self, self.version)
    maps = resnet.features(config, self.resnet_width, self.resnet_blocks, images)
    x = list(maps.values())[-1]
    if self.version == 2:
      x = nn.relu(config.group_norm('norm-pre-head')(x))
    x = jnp.mean(x, axis=(1, 2))
    logits = heads.classify(self, x)
    return logits, maps | {'pre_logits': x, 'logits': logits}


def decode(variant: str) -> dict | None:
  """Fields of a `BiT` named 'R<depth>x<factor of the width>[-v1]', or None."""
  match = PATTERN.fullmatch(variant)
  if not match or int(match[1]) not in DEPTHS:
    return None
  return {'resnet_blocks': DEPTHS[int(match[1])], 'resnet_width': 64 * int(match[2]),
          'version': 1 if match[3] else 2}
