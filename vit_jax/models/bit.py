"""ResNets as classifiers: BiT (version 2) and big_vision's GroupNorm ResNet (1)."""

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import heads, patches, resnet
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

# Depth -> units per block: https://arxiv.org/abs/1512.03385; 26 is half of 50, as in
# https://arxiv.org/abs/2010.11929.
DEPTHS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_POST_ACTIVATION = '-v1'  # ends the names of version 1
PATTERN = re.compile(rf'R(\d+)x([1-9]\d*)({_POST_ACTIVATION})?')


class BiT(Model):
  """A ResNet with GroupNorm, of a name like 'R50x1'; its end tells the version.

  Kolesnikov et al., 2020, https://arxiv.org/abs/1912.11370.
  """
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
    images = patches.normalise(self.options, images)
    maps = resnet.features(self.options, self.version, images)
    x = list(maps.values())[-1]
    if self.version == 2:
      x = nn.relu(resnet.group_norm(self.options, 2, 'norm-pre-head')(x))
    x = jnp.mean(x, axis=(1, 2))
    logits = heads.classify(self.options, self.num_classes, x)
    return logits, maps | {'pre_logits': x, 'logits': logits}

  @property
  def version(self) -> int:
    """Which kind of units it has, see `resnet`."""
    return 1 if self.options.variant.endswith(_POST_ACTIVATION) else 2

  @property
  def strides(self) -> tuple[int, int]:
    stride = resnet.stride(self.options)
    return stride, stride

  def flops(self, image_size: tuple[int, int]) -> int:
    total, _, channels = resnet.flops(self.options, image_size)
    return total + 2 * channels * self.num_classes

  def settings(self) -> dict[str, Any]:
    return super().settings() | {'version': self.version}


def decode(variant: str) -> dict[str, Any] | None:
  """Options of a `BiT` named 'R<depth>x<factor of the width>[-v1]', or None."""
  match = PATTERN.fullmatch(variant)
  if not match or int(match[1]) not in DEPTHS:
    return None
  return {'resnet_blocks': DEPTHS[int(match[1])], 'resnet_width': 64 * int(match[2])}


def in_version(variant: str, version: int) -> str:
  """The name of the same ResNet in version 1 or 2; a UserError for others."""
  if version not in (1, 2):
    raise UserError(f'model version is {version!r}; expected one of 1, 2.')
  return variant.removesuffix(_POST_ACTIVATION) + (
      _POST_ACTIVATION if version == 1 else '')
