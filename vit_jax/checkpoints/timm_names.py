"""Parameter names and config.json of timm's VisionTransformer.

Linear layers are (out, in) there, and query, key and value are one matrix whose
rows are all queries, all keys, all values, head by head.
"""

import numpy as np

from vit_jax.checkpoints import names
from vit_jax.checkpoints.hf_names import dense, heads_in, heads_out, norm
from vit_jax.checkpoints.jax_names import POSITIONS
from vit_jax.checkpoints.names import Link
from vit_jax.models import vit
from vit_jax.runtime.errors import UserError

_ACT = {'exact': 'gelu', 'tanh': 'gelu_tanh', 'quick': 'quick_gelu'}
_POOL = {'token': 'token', 'gap': 'avg', 'map': 'map', 'none': ''}
_ATTENTION = 'MultiHeadDotProductAttention_0'
# Names that timm has registered; `model_args` overrides all sizes in them. B stands
# for what has no name.
_ARCHITECTURES = {
    'Ti': 'vit_tiny_patch16_224', 'S': 'vit_small_patch16_224',
    'B': 'vit_base_patch16_224', 'L': 'vit_large_patch16_224',
    'H': 'vit_huge_patch14_224', 'g': 'vit_giant_patch14_224',
    'G': 'vit_gigantic_patch14_224'}
# (size, blocks of the ResNet) -> name; there the ResNet cannot be overridden.
_HYBRIDS = {
    ('Ti', ()): 'vit_tiny_r_s16_p8_224', ('S', (2, 2, 2, 2)): 'vit_small_r26_s32_224',
    ('B', (3, 4, 9)): 'vit_base_r50_s16_224',
    ('L', (3, 4, 6, 3)): 'vit_large_r50_s32_224'}


def links(model, shapes: dict) -> list[Link]:
  """Links of a VisionTransformer, hybrids included."""
  options = model.options
  _refuse(model)
  result = []
  if 'cls' in shapes:
    result.append(names.same('cls_token', 'cls'))
  if options.registers:
    result.append(names.same('reg_token', 'register_tokens'))
  result += [_positions(model, 'cls' in shapes), *_patches(model, shapes)]
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


def config(model, grid, variant: str) -> dict:
  """config.json of a model that `links` accepts.

  Args:
    model: the ViT.
    grid: (h, w) patches.
    variant: nearest name of ours, such as 'B/16', or ''.
  """
  options = model.options
  size = [g * s for g, s in zip(grid, model.strides, strict=True)]
  height, width = options.patch_size
  args = {
      'patch_size': height if height == width else [height, width],
      'embed_dim': options.width, 'depth': options.depth,
      'num_heads': options.num_heads,
      'mlp_ratio': _mlp_ratio(options.width, options.mlp_dim),
      'qkv_bias': options.qkv_bias, 'qk_norm': options.qk_norm,
      'class_token': model.has_class_token, 'reg_tokens': options.registers,
      'global_pool': _POOL[options.pool], 'fc_norm': options.pool_norm,
      'pre_norm': options.pre_norm, 'no_embed_class':
          bool(model.prefix_length) and options.position_prefix == 'none',
      'init_values': options.layer_scale or None, 'act_layer': _ACT[options.gelu],
      'num_classes': model.num_classes, 'img_size': size,
  }
  size_name = variant.split('/')[0]
  name = _ARCHITECTURES.get(size_name, _ARCHITECTURES['B'])
  hybrid = _HYBRIDS.get((size_name, tuple(options.resnet_blocks)))
  if options.resnet_width == 64 and hybrid:
    name = hybrid
  elif options.resnet_width:
    w = options.resnet_width
    args |= {'layers': list(options.resnet_blocks), 'stem_chs': w,
             'channels': [w * 4 * 2**b for b in range(len(options.resnet_blocks))]}
  return {
      'architecture': name,
      'num_classes': model.num_classes,
      'num_features': options.width,
      'global_pool': _POOL[options.pool],
      'model_args': args,
      'pretrained_cfg': {
          'input_size': [3, *size], 'fixed_input_size': True,
          'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5],
          'num_classes': model.num_classes, 'interpolation': 'bicubic',
          'crop_pct': 0.9, 'first_conv': 'patch_embed.proj', 'classifier': 'head'},
  }


def _mlp_ratio(width: int, mlp_dim: int) -> float:
  # timm takes int(width * ratio), which rounding can make one too small.
  ratio = mlp_dim / width
  exact = int(width * ratio) == mlp_dim
  return ratio if exact else (mlp_dim + 0.5) / width


def _positions(model, class_token):
  r = model.options.registers
  if not r or model.options.position_prefix != 'class':
    return names.same('pos_embed', POSITIONS)
  # Registers have entries there and none here.
  c = int(class_token)
  def write(x):
    zeros = np.zeros((1, r, x.shape[-1]), x.dtype)
    return np.concatenate([x[:, :c], zeros, x[:, c:]], axis=1)
  def read(x):
    return np.concatenate([x[:, :c], x[:, c + r:]], axis=1)
  return names.one('pos_embed', POSITIONS, read, write)


def _patches(model, shapes):
  options = model.options
  result = [names.convolution('patch_embed.proj.weight', 'embedding/kernel')]
  if options.patch_bias:
    result.append(names.same('patch_embed.proj.bias', 'embedding/bias'))
  if not options.resnet_width:
    return result
  backbone = 'patch_embed.backbone'
  stem = f'{backbone}.stem' if options.resnet_blocks else backbone
  result.append(names.convolution(f'{stem}.conv.weight', 'conv_root/kernel'))
  result += norm(f'{stem}.norm', 'gn_root')
  for b, units in enumerate(options.resnet_blocks, 1):
    for u in range(1, units + 1):
      ours = f'block{b}/unit{u}'
      theirs = f'{backbone}.stages.{b - 1}.blocks.{u - 1}'
      for i in (1, 2, 3):
        result.append(
            names.convolution(f'{theirs}.conv{i}.weight', f'{ours}/conv{i}/kernel'))
        result += norm(f'{theirs}.norm{i}', f'{ours}/gn{i}')
      if f'{ours}/conv_proj/kernel' in shapes:
        result.append(names.convolution(
            f'{theirs}.downsample.conv.weight', f'{ours}/conv_proj/kernel'))
        result += norm(f'{theirs}.downsample.norm', f'{ours}/gn_proj')
  return result


def _block(model, theirs, ours):
  options = model.options
  attention = f'{ours}/{_ATTENTION}'
  result = [*norm(f'{theirs}.norm1', f'{ours}/LayerNorm_0'),
            *norm(f'{theirs}.norm2', f'{ours}/LayerNorm_1'),
            *_fused(f'{theirs}.attn.qkv', attention, ('query', 'key', 'value'),
                    options.num_heads, options.qkv_bias),
            *heads_out(f'{theirs}.attn.proj', attention, options.num_heads)]
  if options.qk_norm:
    result += norm(f'{theirs}.attn.q_norm', f'{attention}/query_norm')
    result += norm(f'{theirs}.attn.k_norm', f'{attention}/key_norm')
  if options.layer_scale:
    result += [names.same(f'{theirs}.ls1.gamma', f'{ours}/layer_scale_0'),
               names.same(f'{theirs}.ls2.gamma', f'{ours}/layer_scale_1')]
  result += dense(f'{theirs}.mlp.fc1', f'{ours}/MlpBlock_0/Dense_0')
  result += dense(f'{theirs}.mlp.fc2', f'{ours}/MlpBlock_0/Dense_1')
  return result


def _attention_pool(model):
  options = model.options
  attention = f'MAPHead_0/{_ATTENTION}'
  return [
      names.same('attn_pool.latent', 'MAPHead_0/probe'),
      *heads_in('attn_pool.q', f'{attention}/query', options.num_heads),
      *_fused('attn_pool.kv', attention, ('key', 'value'), options.num_heads),
      *heads_out('attn_pool.proj', attention, options.num_heads),
      *norm('attn_pool.norm', 'MAPHead_0/LayerNorm_0'),
      *dense('attn_pool.mlp.fc1', 'MAPHead_0/MlpBlock_0/Dense_0'),
      *dense('attn_pool.mlp.fc2', 'MAPHead_0/MlpBlock_0/Dense_1')]


def _fused(theirs, ours, parts, num_heads, bias=True):
  """(parts*N*K, D) there, one (D, N, K) per part here."""
  n = len(parts)
  def read(x):
    # (parts, N, K, D) -> parts x (D, N, K)
    return tuple(x.reshape(n, num_heads, -1, x.shape[1]).transpose(0, 3, 1, 2))
  def write(*kernels):
    return (np.concatenate([x.reshape(x.shape[0], -1).T for x in kernels]),)
  result = [Link((f'{theirs}.weight',), tuple(f'{ours}/{p}/kernel' for p in parts),
                 read, write)]
  if bias:
    result.append(Link(
        (f'{theirs}.bias',), tuple(f'{ours}/{p}/bias' for p in parts),
        lambda x: tuple(x.reshape(n, num_heads, -1)),
        lambda *x: (np.concatenate([b.reshape(-1) for b in x]),)))
  return result


def _refuse(model):
  if not isinstance(model, vit.ViT):
    raise UserError(
        f"timm's VisionTransformer cannot hold a {type(model).__name__}; convert to "
        'another format, such as orbax.')
  options = model.options
  refused = {
      'pre_logits (drop them with --representation_size=0)':
          options.representation_size,
      'position_embedding sincos2d': options.position_embedding == 'sincos2d',
      "pool 'token' without class token or registers":
          options.pool == 'token' and not (
              model.has_class_token or options.registers),
  }
  parts = [part for part, present in refused.items() if present]
  if parts:
    raise UserError(
        f"timm's VisionTransformer has no place for {', '.join(parts)}. Convert to a "
        'format that has, such as orbax.')
