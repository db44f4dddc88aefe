"""timm's VisionTransformer, hybrids included: parameter names, and how it is written.

https://github.com/huggingface/pytorch-image-models. Query, key and value are one matrix
there, whose rows are all queries, all keys, all values, head by head.
"""

from collections.abc import Callable

import numpy as np
from etils import epath

from vit_jax.checkpoints import safetensors_file
from vit_jax.checkpoints.code_bases import links, timm_config
from vit_jax.checkpoints.code_bases.code_base import (
  ANY,
  SIZES,
  UNSAID,
  CodeBase,
  ParameterShapes,
)
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.torch_layout import (
  convolution,
  dense,
  heads_in,
  heads_in_together,
  heads_out,
  norm,
)
from vit_jax.checkpoints.positions import POSITIONS, Grid, cubic_kernel, linear
from vit_jax.checkpoints.weights import Weight
from vit_jax.models.model import Model
from vit_jax.models.vit import ViT

_ATTENTION = 'MultiHeadDotProductAttention_0'


def cubic_antialiased(new: int, old: int) -> np.ndarray:
  """Cubic with a = -0.5, widened when shrinking: PyTorch's with antialias=True."""
  scale = max(old / new, 1)
  centre = (np.arange(new) + 0.5) * old / new
  matrix = cubic_kernel((np.arange(old) + 0.5 - centre[:, None]) / scale, -0.5)
  return matrix / matrix.sum(axis=1, keepdims=True)


def half_pixel(new: int, old: int) -> np.ndarray:
  """Linear between pixel centres, never antialiased."""
  where = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
  return linear(where, old)


def _links(model: Model, shapes: ParameterShapes) -> list[Link]:
  options = model.options
  result = []
  if model.has_class_token:
    result.append(links.same('cls_token', 'cls'))
  if options.registers:
    result.append(links.same('reg_token', 'register_tokens'))
  result += [_positions(model), *_patches(model, shapes)]
  if options.pre_norm:
    result += norm('norm_pre', 'Transformer/pre_norm')
  for i in range(options.depth):
    result += _block(model, f'blocks.{i}', f'Transformer/encoderblock_{i}')
  if options.pool_norm:
    result += norm('fc_norm', 'pool_norm')
  else:
    result += norm('norm', 'Transformer/encoder_norm')
  if options.pool == 'map':
    result += _attention_pool(model)
  if model.num_classes:
    result += dense('head', 'head')
  return result


def _positions(model: Model) -> Link:
  r = model.options.registers
  if not r or model.options.position_prefix != 'class':
    return links.same('pos_embed', POSITIONS)
  # Registers have entries there and none here.
  c = int(model.has_class_token)
  def write(x: np.ndarray) -> np.ndarray:
    zeros = np.zeros((1, r, x.shape[-1]), x.dtype)
    return np.concatenate([x[:, :c], zeros, x[:, c:]], axis=1)
  def read(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:, :c], x[:, c + r:]], axis=1)
  return links.one('pos_embed', POSITIONS, read, write)


def _patches(model: Model, shapes: ParameterShapes) -> list[Link]:
  options = model.options
  result = [convolution('patch_embed.proj.weight', 'embedding/kernel')]
  if options.patch_bias:
    result.append(links.same('patch_embed.proj.bias', 'embedding/bias'))
  if not options.resnet_width:
    return result
  backbone = 'patch_embed.backbone'
  stem = f'{backbone}.stem' if options.resnet_blocks else backbone
  result.append(convolution(f'{stem}.conv.weight', 'conv_root/kernel'))
  result += norm(f'{stem}.norm', 'gn_root')
  for b, units in enumerate(options.resnet_blocks, 1):
    for u in range(1, units + 1):
      result += _resnet_unit(
          f'{backbone}.stages.{b - 1}.blocks.{u - 1}', f'block{b}/unit{u}', shapes)
  return result


def _resnet_unit(theirs: str, ours: str, shapes: ParameterShapes) -> list[Link]:
  result = []
  for i in (1, 2, 3):
    result.append(convolution(f'{theirs}.conv{i}.weight', f'{ours}/conv{i}/kernel'))
    result += norm(f'{theirs}.norm{i}', f'{ours}/gn{i}')
  if f'{ours}/conv_proj/kernel' in shapes:
    result.append(convolution(
        f'{theirs}.downsample.conv.weight', f'{ours}/conv_proj/kernel'))
    result += norm(f'{theirs}.downsample.norm', f'{ours}/gn_proj')
  return result


def _block(model: Model, theirs: str, ours: str) -> list[Link]:
  options = model.options
  attention = f'{ours}/{_ATTENTION}'
  result = [*norm(f'{theirs}.norm1', f'{ours}/LayerNorm_0'),
            *norm(f'{theirs}.norm2', f'{ours}/LayerNorm_1'),
            *heads_in_together(
                f'{theirs}.attn.qkv', attention, ('query', 'key', 'value'),
                options.num_heads, options.qkv_bias),
            *heads_out(f'{theirs}.attn.proj', attention, options.num_heads)]
  if options.qk_norm:
    result += norm(f'{theirs}.attn.q_norm', f'{attention}/query_norm')
    result += norm(f'{theirs}.attn.k_norm', f'{attention}/key_norm')
  if options.layer_scale:
    result += [links.same(f'{theirs}.ls1.gamma', f'{ours}/layer_scale_0'),
               links.same(f'{theirs}.ls2.gamma', f'{ours}/layer_scale_1')]
  result += dense(f'{theirs}.mlp.fc1', f'{ours}/MlpBlock_0/Dense_0')
  result += dense(f'{theirs}.mlp.fc2', f'{ours}/MlpBlock_0/Dense_1')
  return result


def _attention_pool(model: Model) -> list[Link]:
  attention, heads = f'MAPHead_0/{_ATTENTION}', model.options.num_heads
  return [
      links.same('attn_pool.latent', 'MAPHead_0/probe'),
      *heads_in('attn_pool.q', f'{attention}/query', heads),
      *heads_in_together('attn_pool.kv', attention, ('key', 'value'), heads),
      *heads_out('attn_pool.proj', attention, heads),
      *norm('attn_pool.norm', 'MAPHead_0/LayerNorm_0'),
      *dense('attn_pool.mlp.fc1', 'MAPHead_0/MlpBlock_0/Dense_0'),
      *dense('attn_pool.mlp.fc2', 'MAPHead_0/MlpBlock_0/Dense_1')]


def _write(folder: epath.Path, model: Model, grid: Grid | None, interface: Interface,
           weights: dict[str, Weight], progress: Callable[[int], None]) -> list[str]:
  assert grid is not None  # positions are learned
  config, missing = timm_config.describe(model, grid, interface)
  safetensors_file.write_folder(folder, weights, {'config.json': config}, progress)
  return missing


def _pre_logits(model: Model) -> str:
  wide = model.options.representation_size
  return 'pre_logits (drop them with --representation_size=0)' if wide else ''


def _class_token(model: Model) -> str:
  options = model.options
  if options.pool != 'token' or options.class_token != 'no' or options.registers:
    return ''
  return "pool 'token' without class token or registers"


def _patch_bias(model: Model) -> str:
  # There the patches have a bias exactly where no norm follows them.
  options = model.options
  if options.patch_bias != options.pre_norm:
    return ''
  return ('a bias of the patches together with pre_norm' if options.pre_norm
          else 'a patch embedding without bias')


CODE_BASE = CodeBase(
    'timm VisionTransformer', timm_config.recognise, _links, _write,
    # Of state dicts, and of an npz of vision_transformer that timm reads.
    {'timm': cubic_antialiased, 'timm_npz': half_pixel},
    holds={ViT: {
        'representation_size': _pre_logits, 'position_embedding': ('learned',),
        'class_token': _class_token, 'pool': tuple(timm_config.POOL), 'registers': ANY,
        'position_prefix': ('class', 'all', 'none'), **SIZES, **UNSAID,
        'gelu': tuple(timm_config.ACT), 'qkv_bias': (True, False),
        'qk_norm': (True, False), 'layer_scale': ANY, 'pool_norm': (True, False),
        'pre_norm': (True, False), 'patch_bias': _patch_bias, 'resnet_width': ANY,
        'resnet_blocks': ANY,
    }},
    format='timm', full_title="timm's VisionTransformer", holds_pixels=True)
