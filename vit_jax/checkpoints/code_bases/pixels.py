"""Pixel statistics of the weights of other code bases, as options of our models.

Every model of ours takes images in [-1, 1]. Where the code base's own programs feed
(p - mean) / std of pixels p in [0, 1], mean and std are options of the model.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.checkpoints.weights import Weight
from vit_jax.models import patches
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

_HALF = (0.5, 0.5, 0.5)
PLAIN: Mapping[str, Any] = {'pixel_mean': _HALF, 'pixel_std': _HALF}
# The first layer of each class of models, where it is a plain linear map of pixels.
_FIRST = ('embedding', 'stem')


def in_preprocessor(preprocessor: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
  """Options of what a preprocessor_config.json of Hugging Face says; {}: 0.5."""
  # The processor computes (255 p * factor - mean) / std, and may leave out either part.
  scale = 255 * float(preprocessor.get('rescale_factor', 1 / 255))
  if not preprocessor.get('do_rescale', True):
    scale = 255.0
  if math.isclose(scale, 1):
    scale = 1.0
  mean, std = (_channels(preprocessor.get(name) or _HALF)
               for name in ('image_mean', 'image_std'))
  if not preprocessor.get('do_normalize', True):
    mean, std = (0.0,) * 3, (1.0,) * 3
  return {'pixel_mean': tuple(x / scale for x in mean),
          'pixel_std': tuple(x / scale for x in std)}


def in_timm(config: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
  """Options of what timm's config.json says; 0.5 if it says nothing."""
  said = config.get('pretrained_cfg') or {}
  return {'pixel_mean': _channels(said.get('mean') or _HALF),
          'pixel_std': _channels(said.get('std') or _HALF)}


def are_plain(model: Model) -> bool:
  """Whether the weights take images in [-1, 1] as they are."""
  options = model.options
  return options.pixel_mean == _HALF and options.pixel_std == _HALF


def folded(model: Model, weights: dict[str, Weight]) -> tuple[Model, dict[str, Weight]]:
  """The same function with the pixel statistics as part of the first layer.

  Args:
    model: any model.
    weights: its parameters by our names.

  Raises:
    UserError: where the first layer is none that they can become part of.
  """
  if are_plain(model):
    return model, weights
  options = model.options
  first = [name for name in _FIRST if f'{name}/bias' in weights]
  if not first or options.resnet_width:
    raise UserError(
        f'The model has pixel statistics of its own (mean {options.pixel_mean}, '
        f'standard deviation {options.pixel_std}). This format has no place for them, '
        'and they cannot become part of the first layer, which is standardised, pads '
        'or has no bias. Convert to hf, timm or orbax.')
  kernel, bias = f'{first[0]}/kernel', f'{first[0]}/bias'
  old, old_bias = weights[kernel], weights[bias]
  scale, shift = patches.pixel_map(options)

  def new_bias() -> Any:
    # (height, width, 3, out)
    added = (old.read().astype('float64') * shift[:, None]).sum(axis=(0, 1, 2))
    return (old_bias.read() + added).astype(old_bias.dtype)
  changed = {
      kernel: Weight(old.shape, old.dtype, lambda: (
          old.read().astype('float64') * scale[:, None]).astype(old.dtype)),
      bias: Weight(old_bias.shape, old_bias.dtype, new_bias)}
  return model.with_options(**PLAIN), weights | changed


def _channels(values: Sequence[float] | float) -> tuple[float, ...]:
  if isinstance(values, int | float):
    return (float(values),) * 3
  red, green, blue = map(float, values)
  return red, green, blue
