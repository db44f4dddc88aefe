"""Names of all releases of vision_transformer and big_vision as today's Linen names.

Our own names are those of the original release in Linen.
"""

import re
from collections.abc import Mapping

from etils import epath

from vit_jax.checkpoints.code_bases.recognition import Contents
from vit_jax.checkpoints.positions import POSITIONS
from vit_jax.checkpoints.weights import Weight
from vit_jax.runtime.errors import UserError

# Linen -> the published files, which number all parts of a block together.
_PUBLISHED = {
    'MultiHeadDotProductAttention_0': 'MultiHeadDotProductAttention_1',
    'LayerNorm_1': 'LayerNorm_2',
    'MlpBlock_0': 'MlpBlock_3',
}
_LINEN = {published: linen for linen, published in _PUBLISHED.items()}

# big_vision's attention pooling once was at the root.
_POOLING = re.compile(
    '(probe|MlpBlock_0|MultiHeadDotProductAttention_0|LayerNorm_0)(/|$)')

# TensorFlow's BiT release -> big_vision's, as regular expressions.
_TF_BIT = (
    (r'resnet/root_block/standardized_conv2d(?:_\d+)?/', 'root_block/conv_root/'),
    (r'resnet/(block\d/unit\d\d)/a/proj/standardized_conv2d(?:_\d+)?/',
     r'\1/conv_proj/'),
    *((rf'resnet/(block\d/unit\d\d)/{letter}/standardized_conv2d(?:_\d+)?/',
       rf'\1/conv{i}/') for i, letter in enumerate('abc', 1)),
    *((rf'resnet/(block\d/unit\d\d)/{letter}/group_norm/', rf'\1/gn{i}/')
      for i, letter in enumerate('abc', 1)),
    (r'resnet/group_norm/', 'norm-pre-head/'),
    (r'resnet/head/conv2d/', 'head/'),
    (r'/gamma$', '/scale'), (r'/beta$', '/bias'),
)

# Before Linen, Mixer's MLPs were single layers with numbered parameters.
_OLD_MIXER = (
    (r'^Mixer/encoderblock_(\d+)/', r'MixerBlock_\1/'),
    (r'(token|channel)_mixing_phase_\d/(kernel|bias)1$', r'\1_mixing/Dense_0/\2'),
    (r'(token|channel)_mixing_phase_\d/(kernel|bias)2$', r'\1_mixing/Dense_1/\2'),
    (r'^Mixer/encoder_norm/', 'pre_head_layer_norm/'),
    (r'^embedding/', 'stem/'),
)


def parameters(contents: Contents) -> tuple[dict[str, Weight], tuple[str, ...]]:
  """The parameters of one model in an npz, and what was left aside.

  Newer files have them under 'params', older ones under 'opt/target', published ones
  at the root. A two-tower file has an image tower 'img' there.
  """
  path, stored, subtree = contents.path, contents.weights, contents.subtree
  for root in ('params/', 'opt/target/', ''):
    if any(name.startswith(root) for name in stored):
      break
  weights = {name[len(root):]: w for name, w in stored.items()
             if name.startswith(root) and (root or not name.startswith(
                 ('opt/', 'chrono/')))}
  if not subtree and any(name.startswith('img/') for name in weights):
    subtree = 'img'
  if subtree:
    weights = {name[len(subtree) + 1:]: w for name, w in weights.items()
               if name.startswith(subtree + '/')}
    if not weights:
      towers = sorted({name.split('/')[0] for name in stored})
      raise UserError(
          f'{path} has nothing under {subtree!r}; it has {", ".join(towers)}.')
  used = {id(w) for w in weights.values()}
  aside = sorted({'/'.join(name.split('/')[:2])
                  for name, w in stored.items() if id(w) not in used})
  where = root + (subtree + '/' if subtree else '')
  notes = (f'Only {where or "the root"} was read, and not: {", ".join(aside)}',
           ) if aside else ()
  return _renamed(path, weights), notes


def published(name: str) -> str:
  """The name of a Linen parameter in the published files of vision_transformer."""
  parts = name.split('/')
  if parts[0] == 'Transformer' and parts[1].startswith('encoderblock'):
    parts[2] = _PUBLISHED.get(parts[2], parts[2])
  return '/'.join(parts)


def _renamed(path: epath.Path, weights: Mapping[str, Weight]) -> dict[str, Weight]:
  old_mixer = any(name.startswith('Mixer/') for name in weights)
  renamed = {}
  for name, weight in weights.items():
    new = _current_mixer(name) if old_mixer else _current(name)
    if new in renamed:
      raise UserError(
          f'{path} holds {new} under two names; expected the names of one release.')
    renamed[new] = weight
  return renamed


def _current_mixer(name: str) -> str:
  for pattern, new in _OLD_MIXER:
    name = re.sub(pattern, new, name)
  return name


def _current(name: str) -> str:
  parts = name.split('/')
  if parts[0] == 'Transformer' and len(parts) > 2:
    parts[2] = _LINEN.get(parts[2], parts[2])
  name = '/'.join(parts)
  if name == 'Transformer/pos_embedding':
    return POSITIONS
  if _POOLING.match(name):
    return 'MAPHead_0/' + name
  if name.startswith('resnet/'):
    for pattern, new in _TF_BIT:
      name = re.sub(pattern, new, name)
  return name
