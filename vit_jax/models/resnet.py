"""ResNets with GroupNorm and weight standardisation, up to their last feature map.

Two versions, each with the names and the numerics of its published weights:
  1  normalisation after every convolution, https://arxiv.org/abs/1512.03385, in front
     of hybrid ViTs and in the GroupNorm ResNets of big_vision;
  2  normalisation before every convolution, https://arxiv.org/abs/1603.05027, in the
     BiT models, https://arxiv.org/abs/1912.11370.
Dims as in `vit.py`, and I, O channels in and out.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

from vit_jax.config.sections import ModelSection

# Version -> (GroupNorm eps, eps of the standardisation, its form).
_ORIGINAL = {1: (1e-6, 1e-5, 'add'), 2: (1e-5, 1e-10, 'sqrt')}
STANDARDISATIONS: dict[str, Callable[[jax.Array, float], jax.Array]] = {
    'add': lambda variance, eps: jnp.sqrt(variance) + eps,
    'sqrt': lambda variance, eps: jnp.sqrt(variance + eps),
}
GROUPS = 32


def group_norm(
    options: ModelSection, version: int, name: str,
    scale_init: Initializer = nn.initializers.ones) -> nn.GroupNorm:
  # Version 1 was trained with the variance as E[x^2] - E[x]^2.
  return nn.GroupNorm(
      GROUPS, epsilon=options.group_norm_eps or _ORIGINAL[version][0],
      use_fast_variance=version == 1, dtype=options.dtype,
      param_dtype=options.param_dtype, scale_init=scale_init, name=name)


def standardise(options: ModelSection, version: int, kernel: jax.Array) -> jax.Array:
  """Mean 0 and deviation 1 over what each output sums, https://arxiv.org/abs/1903.10520."""
  _, eps, form = _ORIGINAL[version]
  if options.std_conv_eps_form != 'auto':
    form = options.std_conv_eps_form
  kernel = kernel.astype(jnp.float32)
  centred = kernel - jnp.mean(kernel, axis=(0, 1, 2))
  variance = jnp.mean(jnp.square(centred), axis=(0, 1, 2))
  return centred / STANDARDISATIONS[form](variance, options.std_conv_eps or eps)


class StdConv(nn.Module):
  """Convolution without bias, with a standardised kernel (height, width, I, O)."""
  options: ModelSection
  version: int
  features: int
  size: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    options, size = self.options, self.size
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(),
        (size, size, x.shape[-1], self.features), options.param_dtype)
    # 'SAME' pads even images by one less at the top and left than at the other sides.
    padding = 'SAME' if self.version == 1 else [(size // 2, size // 2)] * 2
    return jax.lax.conv_general_dilated(
        x.astype(options.dtype),
        standardise(options, self.version, kernel).astype(options.dtype),
        (self.stride, self.stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


class Unit(nn.Module):
  """Bottleneck of version 1: three convolutions, added to their input, then ReLU."""
  options: ModelSection
  width: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    norm = functools.partial(group_norm, self.options, 1)
    conv = functools.partial(StdConv, self.options, 1)
    shortcut = x
    if x.shape[-1] != 4 * self.width or self.stride > 1:
      shortcut = conv(4 * self.width, 1, self.stride, name='conv_proj')(x)
      shortcut = norm('gn_proj')(shortcut)
    y = nn.relu(norm('gn1')(conv(self.width, 1, name='conv1')(x)))
    y = nn.relu(norm('gn2')(conv(self.width, 3, self.stride, name='conv2')(y)))
    y = norm('gn3', nn.initializers.zeros)(conv(4 * self.width, 1, name='conv3')(y))
    return nn.relu(shortcut + y)


class PreActivationUnit(nn.Module):
  """Bottleneck of version 2: the sum is neither normalised nor cut off."""
  options: ModelSection
  width: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    norm = functools.partial(group_norm, self.options, 2)
    conv = functools.partial(StdConv, self.options, 2)
    shortcut = x
    y = nn.relu(norm('gn1')(x))
    if x.shape[-1] != 4 * self.width or self.stride > 1:
      shortcut = conv(4 * self.width, 1, self.stride, name='conv_proj')(y)
    y = conv(self.width, 1, name='conv1')(y)
    y = conv(self.width, 3, self.stride, name='conv2')(nn.relu(norm('gn2')(y)))
    return shortcut + conv(4 * self.width, 1, name='conv3')(nn.relu(norm('gn3')(y)))


class Block(nn.Module):
  """Units of one resolution; the first of them has the stride."""
  options: ModelSection
  version: int
  units: int
  width: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    unit, name = (
        (Unit, 'unit{}') if self.version == 1 else
        (PreActivationUnit, 'unit{:02d}'))
    for u in range(self.units):
      stride = self.stride if u == 0 else 1
      x = unit(self.options, self.width, stride, name=name.format(u + 1))(x)
    return x


class RootBlock(nn.Module):
  """The first convolution of version 2, which has neither norm nor ReLU."""
  options: ModelSection

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    return StdConv(
        self.options, 2, self.options.resnet_width, 7, 2, name='conv_root')(images)


def features(
    options: ModelSection, version: int, images: jax.Array) -> dict[str, jax.Array]:
  """Feature maps by name: 'root', a quarter of the image's size, then 'block1', ...

  The layers belong to the module whose `__call__` asks, as the published names want
  it. Every block doubles the width of the one before.
  """
  width = options.resnet_width
  if version == 1:
    x = StdConv(options, 1, width, 7, 2, name='conv_root')(images)
    x = nn.relu(group_norm(options, 1, 'gn_root')(x))
    x = nn.max_pool(x, (3, 3), (2, 2), 'SAME')
  else:
    x = RootBlock(options, name='root_block')(images)
    # Flax's annotation knows no padding but names.
    padding = ((1, 1), (1, 1))
    x = nn.max_pool(
        x, (3, 3), (2, 2), padding)  # pyright: ignore[reportArgumentType]
  maps = {'root': x}  # (B, ceil(H / 4), ceil(W / 4), width)
  for b, units in enumerate(options.resnet_blocks):
    x = Block(
        options, version, units, width * 2**b, 2 if b else 1, name=f'block{b + 1}')(x)
    maps[f'block{b + 1}'] = x
  return maps


def stride(options: ModelSection) -> int:
  """Pixels per feature of the last map; 1 without a ResNet."""
  if not options.resnet_width:
    return 1
  # The root halves twice, every block after the first once.
  return 4 * 2**max(len(options.resnet_blocks) - 1, 0)


def flops(
    options: ModelSection, image_size: tuple[int, int]
) -> tuple[int, tuple[int, int], int]:
  """(FLOPs, grid, channels) of the last feature map, see `Model.flops`."""
  h, w = (-(-size // 2) for size in image_size)
  channels = options.resnet_width
  total = 2 * h * w * 7 * 7 * 3 * channels
  h, w = -(-h // 2), -(-w // 2)
  for b, units in enumerate(options.resnet_blocks):
    mid = options.resnet_width * 2**b
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
