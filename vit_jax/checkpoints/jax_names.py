"""Parameter names of the JAX releases: vision_transformer and big_vision.

Our names are those of the original release in Linen, so these worlds differ from
ours in few places: the numbering of a block's parts before Linen, where positions
are kept, whether blocks are stacked, and GroupNorm arrays of shape (1, 1, 1, C).
"""

import re

import numpy as np

from vit_jax.checkpoints import names
from vit_jax.checkpoints.names import Link
from vit_jax.models import bit, vit
from vit_jax.runtime.errors import UserError

POSITIONS = 'Transformer/posembed_input/pos_embedding'
_BLOCK = re.compile(r'Transformer/encoderblock_\d+/(.*)')
_GROUP_NORM = re.compile(r'(.*/)?(gn\d|gn_root|gn_proj|norm-pre-head)/(scale|bias)')

# Linen -> the published files, which number all parts of a block together.
_PRE_LINEN = {
    'MultiHeadDotProductAttention_0': 'MultiHeadDotProductAttention_1',
    'LayerNorm_1': 'LayerNorm_2',
    'MlpBlock_0': 'MlpBlock_3',
}
_LINEN = {old: new for new, old in _PRE_LINEN.items()}

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


def current_mixer(name: str) -> str:
  """Today's name of a parameter in a file that has names under Mixer/."""
  for pattern, new in _OLD_MIXER:
    name = re.sub(pattern, new, name)
  return name


def current(name: str) -> str:
  """A name of any release of these code bases as today's Linen name."""
  parts = name.split('/')
  if parts[0] == 'Transformer' and len(parts) > 2:
    parts[2] = _LINEN.get(parts[2], parts[2])
  name = '/'.join(parts)
  if name == 'Transformer/pos_embedding':
    return POSITIONS
  # Attention pooling once was at the root.
  if re.match('(probe|MlpBlock_0|MultiHeadDotProductAttention_0|LayerNorm_0)(/|$)',
              name):
    return 'MAPHead_0/' + name
  if name.startswith('resnet/'):
    for pattern, new in _TF_BIT:
      name = re.sub(pattern, new, name)
  return name


def vision_transformer(model, shapes: dict) -> list[Link]:
  """Links of the original release, with the names of its published files."""
  _refuse(model, "vision_transformer's npz", original=True)
  return _published_names(_links(model, shapes))


def linen(model, shapes: dict) -> list[Link]:
  """The same under Linen names, which `current` gives to the names of all files."""
  links = _links(model, shapes)
  return _stacked(links) if model.options.scan else links


def own(model, shapes: dict) -> list[Link]:
  """Links of this project's checkpoints: every name is its own."""
  links = [names.same(name, name) for name in shapes]
  return _stacked(links) if model.options.scan else links


def big_vision(model, shapes: dict) -> list[Link]:
  """Links of big_vision: positions at the root, blocks stacked if the model scans."""
  _refuse(model, "big_vision's npz", original=False)
  links = []
  for link in _links(model, shapes):
    if POSITIONS in link.ours:
      link = _root_positions(model)
    elif link.ours == ('cls',) and _has_class_entry(model):
      continue  # comes with the positions
    links.append(link)
  return _stacked(links) if model.options.scan else links


def _links(model, shapes):
  """One link per parameter under its own name."""
  links = []
  for name, shape in shapes.items():
    if _GROUP_NORM.fullmatch(name):
      links.append(names.one(
          name, name, lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, 1, -1)))
    elif name == POSITIONS and model.has_class_token and not _has_class_entry(model):
      # An entry of zeros says the same. Files with one are read as they are.
      links.append(names.one(
          name, name, lambda x: x[:, 1:],
          lambda x: np.concatenate([np.zeros_like(x[:, :1]), x], axis=1)))
    elif name == 'head/kernel':
      # A 1x1 convolution in TensorFlow's BiT files.
      links.append(names.one(
          name, name, lambda x, shape=shape: x.reshape(x.shape[-2:]), lambda x: x))
    elif not model.options.qkv_bias and re.search(
        r'encoderblock_\d+/.*/(query|key|value)/kernel', name):
      links.append(_without_bias(name))
    else:
      links.append(names.same(name, name))
  return links


def _without_bias(kernel):
  """A kernel whose bias is absent here and zero there."""
  return Link(
      (kernel, kernel.removesuffix('kernel') + 'bias'), (kernel,),
      lambda kernel, bias: (kernel,),
      lambda kernel: (kernel, np.zeros(kernel.shape[1:], kernel.dtype)))


def _root_positions(model):
  if not _has_class_entry(model):
    return names.same('pos_embedding', POSITIONS)
  # There, positions are added before the class token is prepended, so its entry
  # belongs to the token. Detection reads such files without an entry.
  return Link(
      ('cls', 'pos_embedding'), ('cls', POSITIONS),
      lambda cls, table: (
          cls, np.concatenate([np.zeros_like(cls), table], axis=1)),
      lambda cls, table: (cls + table[:, :1], table[:, 1:]))


def _stacked(links):
  """The per-block links of the same parameter joined into one."""
  of_blocks, rest = {}, []
  for link in links:
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
      names.stack(f'Transformer/encoderblock/{part}', [x.ours[0] for x in group])
      for part, group in of_blocks.items()]


def _published_names(links):
  def old(name):
    parts = name.split('/')
    if parts[0] == 'Transformer' and parts[1].startswith('encoderblock'):
      parts[2] = _PRE_LINEN.get(parts[2], parts[2])
    return '/'.join(parts)
  return [Link(tuple(map(old, x.theirs)), x.ours, x.read, x.write) for x in links]


def _has_class_entry(model):
  return model.has_class_token and model.options.position_prefix != 'none'


def _refuse(model, target, *, original):
  """Raises UserError for the parts of a model that these files have no names for."""
  if isinstance(model, bit.BiT):
    parts = ['a ResNet without Transformer'] if original else []
  elif not isinstance(model, vit.ViT):
    parts = []
  else:
    options = model.options
    class_token, pool = model.has_class_token, options.pool
    refused = {
        'registers': options.registers,
        'qk_norm': options.qk_norm,
        'layer_scale': options.layer_scale,
        'pool_norm': options.pool_norm,
        'pre_norm': options.pre_norm,
        'a patch embedding without bias': not options.patch_bias,
        f"a class token with pool '{pool}'": class_token and (
            pool in ('gap', 'map') or (pool == 'none' and not original)),
        "pool 'map'": pool == 'map' and original,
        "pool 'token' without class token":
            pool == 'token' and not class_token and original,
        'position_embedding sincos2d':
            options.position_embedding == 'sincos2d' and original,
        'a ResNet before the Transformer': options.resnet_width and not original,
    }
    parts = [part for part, present in refused.items() if present]
  if parts:
    raise UserError(
        f'{target} has no place for {", ".join(parts)}. Convert to a format that '
        'has, such as orbax.')
