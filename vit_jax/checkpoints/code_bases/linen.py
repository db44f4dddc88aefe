"""What vision_transformer and big_vision have in common, both written in Flax Linen.

Our names are those of the original release in Linen, so their files differ from ours in
few places: where positions are kept, whether blocks are stacked, and GroupNorm arrays
of shape (1, 1, 1, C).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints import npz
from vit_jax.checkpoints.code_bases import links
from vit_jax.checkpoints.code_bases.code_base import ANY, PLAIN, SIZES, UNSAID, Held
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import AmbiguousError, Shapes
from vit_jax.checkpoints.positions import POSITIONS, Grid, linear
from vit_jax.checkpoints.weights import Weight
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

_ATTENTION = 'MultiHeadDotProductAttention_0'
_BLOCK = re.compile(r'Transformer/encoderblock_\d+/(.*)')
_GROUP_NORM = re.compile(r'(.*/)?(gn\d|gn_root|gn_proj|norm-pre-head)/(scale|bias)')

# What both can hold of every kind of model.
VIT: Mapping[str, Held] = {
    **SIZES, **UNSAID, **PLAIN, 'representation_size': ANY, 'qkv_bias': (True, False),
    'position_prefix': ('class', 'all', 'none')}
MIXER: Mapping[str, Held] = {**SIZES, **UNSAID, 'token_mlp_dim': ANY}
BIT: Mapping[str, Held] = {**UNSAID, 'resnet_width': ANY, 'resnet_blocks': ANY}


def corners_aligned(new: int, old: int) -> np.ndarray:
  """Linear; first and last samples coincide: scipy.ndimage.zoom with order 1."""
  where = np.arange(new) * ((old - 1) / max(new - 1, 1))
  return linear(where, old)


POSITION_RESIZES = {'original': corners_aligned}


def is_vit(shapes: Shapes) -> bool:
  return 'embedding/kernel' in shapes and any(
      name.startswith('Transformer/encoderblock') for name in shapes)


def vit_options(shapes: Shapes, overrides: Mapping[str, Any]
                ) -> tuple[dict[str, Any], int]:
  """(options, number of classes) of a ViT, without those of its positions."""
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
  hybrid = {}
  if 'conv_root/kernel' in shapes:
    hybrid = resnet_options(shapes, 'conv_root/kernel')
  elif channels != 3:
    raise UserError(
        f'{shapes.path} is for images of {channels} channels; expected 3 (RGB).')
  options = {
      'patch_size': (height, width), 'width': dim, 'depth': depth,
      'mlp_dim': mlp_dim, 'num_heads': heads, 'scan': stacked,
      'representation_size': width_of(shapes, 'pre_logits'), **hybrid}
  num_classes = width_of(shapes, 'head')
  return options | _pooling(shapes, num_classes, overrides), num_classes


def width_of(shapes: Shapes, layer: str) -> int:
  """Width of a dense layer, 0 without it."""
  name = f'{layer}/kernel'
  return shapes.get(name, 2)[1] if name in shapes else 0


def resnet_options(shapes: Shapes, root: str) -> dict[str, Any]:
  blocks = shapes.count('block')
  return {
      'resnet_width': shapes.get(root, 4)[-1],
      'resnet_blocks': tuple(
          shapes.count(f'block{b}/unit') for b in range(1, blocks + 1))}


def _pooling(shapes: Shapes, num_classes: int, overrides: Mapping[str, Any]
             ) -> dict[str, Any]:
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


def unrolled_links(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> list[Link]:
  """One link per parameter under its Linen name."""
  result = []
  for name, shape in shapes.items():
    if _GROUP_NORM.fullmatch(name):
      result.append(links.one(
          name, name, lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, 1, -1)))
    elif name == POSITIONS and model.has_class_token and not has_class_entry(model):
      # An entry of zeros says the same. Files with one are read as they are.
      result.append(links.one(
          name, name, lambda x: x[:, 1:],
          lambda x: np.concatenate([np.zeros_like(x[:, :1]), x], axis=1)))
    elif name == 'head/kernel':
      # A 1x1 convolution in TensorFlow's BiT files.
      result.append(links.one(
          name, name, lambda x, shape=shape: x.reshape(x.shape[-2:]), lambda x: x))
    elif not model.options.qkv_bias and re.search(
        r'encoderblock_\d+/.*/(query|key|value)/kernel', name):
      result.append(_without_bias(name))
    else:
      result.append(links.same(name, name))
  return result


def stacked(links_of_blocks: Sequence[Link]) -> list[Link]:
  """The per-block links of the same parameter joined into one."""
  of_blocks: dict[str, list[Link]] = {}
  rest = []
  for link in links_of_blocks:
    match = _BLOCK.fullmatch(link.theirs[0])
    if match:
      of_blocks.setdefault(match[1], []).append(link)
    else:
      rest.append(link)
  if any(len(link.theirs) > 1 for group in of_blocks.values() for link in group):
    raise UserError(
        "big_vision's stacked layout cannot hold a model with qkv_bias=False: convert "
        'with --scan=false.')
  return rest + [
      links.stack(f'Transformer/encoderblock/{part}', [x.ours[0] for x in group])
      for part, group in of_blocks.items()]


def has_class_entry(model: Model) -> bool:
  """Whether the positions have an entry of the class token."""
  options = model.options
  return (model.has_class_token and options.position_prefix != 'none'
          and options.position_embedding == 'learned')


def _without_bias(kernel: str) -> Link:
  """A kernel whose bias is absent here and zero there."""
  return Link(
      (kernel, kernel.removesuffix('kernel') + 'bias'), (kernel,),
      lambda kernel, bias: (kernel,),
      lambda kernel: (kernel, np.zeros(kernel.shape[1:], kernel.dtype)))


def write(path: epath.Path, model: Model, grid: Grid | None, interface: Interface,
          weights: dict[str, Weight], progress: Callable[[int], None]) -> list[str]:
  with path.open('wb') as file:
    npz.write(file, weights, progress)
  return ['names of the classes'] if interface.class_names else []
