"""Settings of the model."""

import dataclasses
import math

from vit_jax.config.settings import (
    Rule,
    at_least,
    is_number,
    probability,
    setting,
)


def _of_variant(help: str, default: int = 0, **known: object) -> int:
  """A size that the variant settles unless it is given."""
  return setting(default, help, rule=Rule(
      lambda size: size >= 0, "must be positive, or 0 for that of the variant"),
      from_variant=True, **known)


def _eps(help: str, **known: object) -> float:
  return setting(0.0, help, **known, rule=Rule(
      lambda eps: eps >= 0, 'must be positive, or 0 for that of the original code'))


def _rate(help: str, **known: object) -> float:
  return setting(0.0, help, rule=probability(one=False), **known)


def _of_channels(help: str, least: float, **known: object) -> tuple:
  """A number for red, green and blue, above `least`."""
  def allows(values: tuple) -> bool:
    return not values or len(values) == 3 and all(
        is_number(x) and least < x < math.inf for x in values)
  return setting((), help, from_variant=True, **known, rule=Rule(
      allows, 'takes a finite number for each of red, green and blue'
      f'{", above 0" if least == 0 else ""}, or () for 0.5'))


# Kinds of models that have an option.
_ALL = ('ViT', 'Mixer', 'BiT')
_WITH_BLOCKS = ('ViT', 'Mixer')
_WITH_RESNET = ('ViT', 'BiT')


@dataclasses.dataclass(frozen=True)
class ModelSection:
  """Which model to build; options that its class doesn't have keep their defaults."""
  variant: str = setting(
      'S/16', "'<size>/<patch>' such as 'B/16', a hybrid 'R50+B/16', 'Mixer-B/16' or a "
      "ResNet 'R50x1'; '' is a ViT with all its sizes from the settings below.",
      tuning='made_for', effect='none', models=())
  width: int = _of_variant(
      "Size of a token; 0: the variant's.", tuning='made_for',
      effect='parameters', models=_WITH_BLOCKS)
  depth: int = _of_variant(
      "Number of blocks; 0: the variant's.", tuning='made_for',
      effect='parameters', models=_WITH_BLOCKS)
  mlp_dim: int = _of_variant(
      "Width of the blocks' MLPs; 0: the variant's.", tuning='made_for',
      effect='parameters', models=_WITH_BLOCKS)
  num_heads: int = _of_variant(
      "Attention heads; 0: the variant's.", effect='parameters')
  patch_size: tuple = setting(
      (), "(height, width) of a patch in pixels; (): the variant's.", size=True,
      from_variant=True, effect='parameters', models=_WITH_BLOCKS)
  token_mlp_dim: int = _of_variant(
      "MLP width across tokens, Mixer only; 0: the variant's.",
      effect='parameters', models=('Mixer',))
  resnet_width: int = _of_variant(
      "Channels of the root of a ResNet, alone or in front of a ViT's patches; 0: the "
      "variant's.", effect='parameters', models=_WITH_RESNET)
  resnet_blocks: tuple = setting(
      (), "Units of the ResNet's blocks, such as (3, 4, 6, 3); (): the variant's.",
      from_variant=True, rule=Rule(
          lambda units: all(type(n) is int and n > 0 for n in units),
          'takes positive whole numbers, the units of every block'),
      effect='parameters', models=_WITH_RESNET)
  pixel_mean: tuple = _of_channels(
      'Mean of the pixel values, from 0 to 1, of red, green and blue that the weights '
      'were made for. The model itself subtracts it: images are in [-1, 1] whatever it '
      'is. (): that of `init.checkpoint`, or 0.5.', -math.inf, models=_ALL)
  pixel_std: tuple = _of_channels(
      'Standard deviation that goes with `pixel_mean`.', 0, models=_ALL)
  pool: str = setting(
      'token', "What of the tokens the head gets: 'token' (the class token), 'gap' "
      "(mean over patches), 'map' (attention pooling) or 'none' (all tokens).",
      choices=('token', 'gap', 'map', 'none'))
  pool_norm: bool = setting(False, 'The last norm after pooling instead of before it.')
  representation_size: int = setting(
      0, 'Width of the tanh layer before the head; 0: no such layer.',
      rule=at_least(0), effect='parameters')
  class_token: str = setting(
      'auto', "'yes', 'no' or 'auto' (only for pool 'token').",
      choices=('auto', 'yes', 'no'), effect='parameters')
  mask_embedding: bool = setting(
      False, "A learned embedding for masked patches, as config.objective="
      "'masked_patches' needs it.", effect='parameters')
  registers: int = setting(
      0, 'Extra tokens after the class token.', rule=at_least(0), effect='parameters')
  position_embedding: str = setting(
      'learned', "'learned', or fixed: 'sincos2d'.", choices=('learned', 'sincos2d'),
      effect='parameters')
  position_prefix: str = setting(
      'class', "Tokens before the patches that have positions: 'class', 'all' or "
      "'none'.", choices=('class', 'all', 'none'), effect='parameters')
  patch_bias: bool = setting(
      True, 'Bias of the patch embedding.', effect='parameters')
  pre_norm: bool = setting(
      False, 'A norm between the positions and the blocks, as in CLIP.',
      effect='parameters')
  qkv_bias: bool = setting(
      True, 'Biases of queries, keys and values.', effect='parameters')
  qk_norm: bool = setting(
      False, 'A norm over the head size of queries and keys.', effect='parameters')
  layer_scale: float = setting(
      0.0, 'Initial factor of every residual branch; 0: no such parameters.',
      rule=Rule(lambda scale: scale >= 0, 'must be positive, or 0 for none'),
      effect='parameters')
  dropout: float = _rate(
      'Dropout after the positions and in the MLPs.', effect='none')
  attention_dropout: float = _rate(
      'Dropout of the attention weights.', effect='none')
  stochastic_depth: float = _rate(
      'Drop rate of the last block; earlier blocks scale linearly from 0.',
      effect='none')
  head_bias_init: float = setting(
      0.0, "Initial value of the head's bias.", effect='none', models=_ALL)
  layer_norm_eps: float = setting(
      1e-6, 'Eps of the LayerNorms.', rule=Rule(
          lambda eps: 0 < eps < 0.1, 'must be above 0 and below 0.1'),
      models=_WITH_BLOCKS)
  gelu: str = setting(
      'tanh', "'tanh' (as in the original code), 'exact' (erf) or 'quick' (logistic).",
      choices=('tanh', 'exact', 'quick'), models=_WITH_BLOCKS)
  group_norm_eps: float = _eps(
      "Eps of the ResNet's norms; 0: as in the original code.", models=_WITH_RESNET)
  std_conv_eps: float = _eps(
      "Eps of the ResNet's standardised kernels; 0: as in the original code.",
      models=_WITH_RESNET)
  std_conv_eps_form: str = setting(
      'auto', "That eps 'add'ed to the standard deviation, or to the variance before "
      "the 'sqrt'; 'auto': as in the original code.", choices=('auto', 'add', 'sqrt'),
      models=_WITH_RESNET)
  dtype: str = setting(
      'auto', 'Of the computation; auto is bfloat16 on TPU and GPU, float32 on CPU.',
      choices=('auto', 'float32', 'bfloat16', 'float16', 'float64'),
      effect='none', models=_ALL)
  param_dtype: str = setting(
      'float32', 'Of the parameters.',
      choices=('float32', 'bfloat16', 'float16', 'float64'), effect='none', models=_ALL)
  scan: bool = setting(
      False, 'One compiled block, applied `depth` times by a scan.', tuning='tunable',
      effect='none')
  remat: str = setting(
      'none', "What the backward pass recomputes: 'none' (nothing), 'full' "
      "(everything), 'dots' (all but matrix products), 'dots_no_batch' (all but "
      'matrix products without batch dims).',
      choices=('none', 'full', 'dots', 'dots_no_batch'),
      tuning='tunable', effect='none')
  projection: str = setting(
      'auto', "Form of the products of a block: '2d' of matrices, with all tokens in "
      "one dim; '3d' with dims as they are, batch, tokens, heads and head size; "
      "'auto' picks "
      'by platform and head size. The parameters and the results are the same.',
      choices=('auto', '2d', '3d'), tuning='tunable', effect='none')
  softmax_dtype: str = setting(
      'float32', "Of the attention weights before they are rounded to `dtype`: "
      "'float32', or 'compute' for `dtype` itself, as in big_vision. With bfloat16 on "
      'TPUs that spares an estimated 7 % of a step of S/16, and rounds the '
      'exponentials and their sum.', choices=('float32', 'compute'), effect='none')
