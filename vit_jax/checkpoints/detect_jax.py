"""The model in an npz of vision_transformer or big_vision (Linen names)."""

import math

from vit_jax.checkpoints.detect import AmbiguousError, Detected, Shapes
from vit_jax.checkpoints.jax_names import POSITIONS
from vit_jax.models import bit, variants
from vit_jax.runtime.errors import UserError

_ATTENTION = 'MultiHeadDotProductAttention_0'


def detect(shapes: Shapes, overrides: dict) -> Detected | None:
  """The model, or None if the names are those of no architecture known here."""
  if 'embedding/kernel' in shapes and any(
      name.startswith('Transformer/encoderblock') for name in shapes):
    return _vit(shapes, overrides)
  if 'stem/kernel' in shapes and 'MixerBlock_0/LayerNorm_0/scale' in shapes:
    return _mixer(shapes)
  if 'root_block/conv_root/kernel' in shapes or 'conv_root/kernel' in shapes:
    return _resnet(shapes)
  return None


def _vit(shapes, overrides):
  stacked = any(name.startswith('Transformer/encoderblock/') for name in shapes)
  block = 'Transformer/encoderblock' + ('' if stacked else '_0')
  s = int(stacked)
  *_, heads, head_size = shapes.get(f'{block}/{_ATTENTION}/query/kernel', 3 + s)
  mlp_dim = shapes.get(f'{block}/MlpBlock_0/Dense_0/kernel', 2 + s)[-1]
  if stacked:
    depth = shapes.get(f'{block}/LayerNorm_0/scale', 2)[0]
  else:
    depth = shapes.count('Transformer/encoderblock_')
  height, width, channels, dim = shapes.get('embedding/kernel', 4)
  if dim != heads * head_size:
    raise UserError(
        f'{shapes.path}: the patches have width {dim}, the attention {heads} heads of '
        f'size {head_size}; expected {dim} = heads x size. The file is damaged.')
  options = {
      'patch_size': (height, width), 'width': dim, 'depth': depth,
      'mlp_dim': mlp_dim, 'num_heads': heads, 'scan': stacked,
      'representation_size':
          shapes.get('pre_logits/kernel', 2)[1] if 'pre_logits/kernel' in shapes else 0,
      **_resnet_options(shapes),
  }
  if 'resnet_width' not in options and channels != 3:
    raise UserError(
        f'{shapes.path} is for images of {channels} channels; expected 3 (RGB).')
  num_classes = shapes.get('head/kernel', 2)[1] if 'head/kernel' in shapes else 0
  options |= _pooling(shapes, num_classes, overrides)
  world, tokens = 'vision_transformer', None
  if 'pos_embedding' in shapes:
    world, tokens = 'big_vision', shapes.get('pos_embedding', 3)[1]
    options['position_prefix'] = 'none'
  elif POSITIONS in shapes:
    tokens = shapes.get(POSITIONS, 3)[1] - int('cls' in shapes)
  else:
    world = 'big_vision'
    options |= {'position_embedding': 'sincos2d', 'position_prefix': 'none'}
  return Detected(world, options, num_classes, tokens)


def _pooling(shapes, num_classes, overrides):
  if 'MAPHead_0/probe' in shapes:
    return {'pool': 'map'}
  if 'cls' in shapes:
    # Class token and all tokens as output ('token_unpooled') has to be asked for.
    token = overrides.get('pool', 'token') != 'token'
    return {'pool': 'token', **({'class_token': 'yes'} if token else {})}
  if not num_classes and 'pool' not in overrides:
    raise AmbiguousError(
        'pool', f'{shapes.path} has neither class token nor head, so it does not say '
        "how its tokens are pooled: pool can be 'gap' (mean), 'none' (all tokens) or "
        "'token' (the first one). Give --pool=... (in Python pool=...).")
  pool = overrides.get('pool', 'gap')
  return {'pool': pool, **({'class_token': 'no'} if pool == 'token' else {})}


def _resnet_options(shapes):
  if 'conv_root/kernel' not in shapes:
    return {}
  blocks = shapes.count('block')
  units = tuple(shapes.count(f'block{b}/unit') for b in range(1, blocks + 1))
  return {'resnet_width': shapes.get('conv_root/kernel', 4)[-1],
          'resnet_blocks': units}


def _resnet(shapes):
  version = 2 if 'root_block/conv_root/kernel' in shapes else 1
  root = 'root_block/conv_root/kernel' if version == 2 else 'conv_root/kernel'
  head = [n for n in shapes if n == 'head/kernel']
  num_classes = shapes.shapes['head/kernel'][-1] if head else 0
  blocks = shapes.count('block')
  options = {
      'resnet_width': shapes.get(root, 4)[-1],
      'resnet_blocks': tuple(
          shapes.count(f'block{b}/unit') for b in range(1, blocks + 1))}
  variant = bit.in_version(variants.OF_CLASS['BiT'], version)
  return Detected('big_vision', options, num_classes, None, variant=variant)


def _mixer(shapes):
  height, width, _, dim = shapes.get('stem/kernel', 4)
  tokens, token_mlp_dim = shapes.get('MixerBlock_0/token_mixing/Dense_0/kernel', 2)
  options = {
      'patch_size': (height, width), 'width': dim,
      'depth': shapes.count('MixerBlock_'), 'token_mlp_dim': token_mlp_dim,
      'mlp_dim': shapes.get('MixerBlock_0/channel_mixing/Dense_0/kernel', 2)[1]}
  num_classes = shapes.get('head/kernel', 2)[1] if 'head/kernel' in shapes else 0
  side = math.isqrt(tokens)
  return Detected(
      'vision_transformer', options, num_classes, tokens,
      grid=(side, side) if side * side == tokens else None,
      variant=variants.OF_CLASS['Mixer'])
