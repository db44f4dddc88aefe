"""ResNets with GroupNorm and weight standardisation, up to their last feature map.

Two versions, each with the names and the numerics of its published weights:
  1  normalisation after every convolution, https://arxiv.org/abs/1512.03385, in front
     of hybrid ViTs and in the GroupNorm ResNets of big_vision;
  2  normalisation before every convolution, https://arxiv.org/abs/1603.05027, in the
     BiT models, https://arxiv.org/abs/1912.11370.
Dims as in `vit.py`, and I, O channels in and out.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

# Version -> (GroupNorm eps, eps of the standardisation, its form).
_ORIGINAL = {1: (1e-6, 1e-5, 'add'), 2: (1e-5, 1e-10, 'sqrt')}
STANDARDISATIONS = {
    'add': lambda variance, eps: jnp.sqrt(variance) + eps,
    'sqrt': lambda variance, eps: jnp.sqrt(variance + eps),
}
GROUPS = 32


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """What all units have in common; 0 and 'auto' stand for the version's original."""
  version: int = 1
  group_norm_eps: float = 0.0
  std_conv_eps: float = 0.0
  std_conv_eps_form: str = 'auto'
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @classmethod
  def of(cls, model, version: int) -> 'ResNetConfig':
    """From the fields of a model that have the same names."""
    names = [f.name for f in dataclasses.fields(cls) if f.name != 'version']
    return cls(version, **{name: getattr(model, name) for name in names})

  def group_norm(self, name: str, scale_init=nn.initializers.ones) -> nn.GroupNorm:
    # Version 1 was trained with the variance as E[x^2] - E[x]^2.
    return nn.GroupNorm(
        GROUPS, epsilon=self.group_norm_eps or _ORIGINAL[self.version][0],
        use_fast_variance=self.version == 1, dtype=self.dtype,
        param_dtype=self.param_dtype, scale_init=scale_init, name=name)

  def standardise(self, kernel: jax.Array) -> jax.Array:
    """Mean 0 and deviation 1 over what each output sums, https://arxiv.org/abs/1903.10520."""
    _, eps, form = _ORIGINAL[self.version]
    if self.std_conv_eps_form != 'auto':
      form = self.std_conv_eps_form
    kernel = kernel.astype(jnp.float32)
    centred = kernel - jnp.mean(kernel, axis=(0, 1, 2))
    variance = jnp.mean(jnp.square(centred), axis=(0, 1, 2))
    return centred / STANDARDISATIONS[form](variance, self.std_conv_eps or eps)


class StdConv(nn.Module):
  """Convolution without bias, with a standardised kernel (height, width, I, O)."""
  config: ResNetConfig
  features: int
  size: int
  stride: int = 1

  @nn.compact
  def __call__(self, x):
    config, size = self.config, self.size
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(),
        (size, size, x.shape[-1], self.features), config.param_dtype)
    # 'SAME' pads even images by one less at the top and left than at the other sides.
    padding = 'SAME' if config.version == 1 else [(size // 2, size // 2)] * 2
    return jax.lax.conv_general_dilated(
        x.astype(config.dtype), config.standardise(kernel).astype(config.dtype),
        (self.stride, self.stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


class Unit(nn.Module):
  """Bottleneck of version 1: three convolutions, added to their input, then ReLU."""
  config: ResNetConfig
  width: int
  stride: int

  @nn.compact
  def __call__(self, x):
    norm, conv = self.config.group_norm, functools.partial(StdConv, self.config)
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
  config: ResNetConfig
  width: int
  stride: int

  @nn.compact
  def __call__(self, x):
    norm, conv = self.config.group_norm, functools.partial(StdConv, self.config)
    shortcut = x
    y = nn.relu(norm('gn1')(x))
    if x.shape[-1] != 4 * self.width or self.stride > 1:
      shortcut = conv(4 * self.width, 1, self.stride, name='conv_proj')(y)
    y = conv(self.width, 1, name='conv1')(y)
    y = conv(self.width, 3, self.stride, name='conv2')(nn.relu(norm('gn2')(y)))
    return shortcut + conv(4 * self.width, 1, name='conv3')(nn.relu(norm('gn3')(y)))


class Block(nn.Module):
  """Units of one resolution; the first of them has the stride."""
  config: ResNetConfig
  units: int
  width: int
  stride: int

  @nn.compact
  def __call__(self, x):
    unit, name = (
        (Unit, 'unit{}') if self.config.version == 1 else
        (PreActivationUnit, 'unit{:02d}'))
    for u in range(self.units):
      stride = self.stride if u == 0 else 1
      x = unit(self.config, self.width, stride, name=name.format(u + 1))(x)
    return x


class RootBlock(nn.Module):
  """The first convolution of version 2, which has neither norm nor ReLU."""
  config: ResNetConfig
  width: int

  @nn.compact
  def __call__(self, images):
    return StdConv(self.config, self.width, 7, 2, name='conv_root')(images)


def features(
    config: ResNetConfig, width: int, units: tuple[int, ...], images: jax.Array
) -> dict[str, jax.Array]:
  """Feature maps by name: 'root', a quarter of the image's size, then 'block1', ...

  The layers belong to the module whose `__call__` asks, as the published names want
  it. Width is that of the root; every block doubles the one before.
  """
  if config.version == 1:
    x = StdConv(config, width, 7, 2, name='conv_root')(images)
    x = nn.relu(config.group_norm('gn_root')(x))
    x = nn.max_pool(x, (3, 3), (2, 2), 'SAME')
  else:
    x = RootBlock(config, width, name='root_block')(images)
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
  maps = {'root': x}  # (B, ceil(H / 4), ceil(W / 4), width)
  for b, count in enumerate(units):
    x = Block(
        config, count, width * 2**b, 2 if b else 1, name=f'block{b + 1}')(x)
    maps[f'block{b + 1}'] = x
  return maps
