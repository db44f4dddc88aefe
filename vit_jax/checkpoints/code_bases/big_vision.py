"""big_vision: npz files of ViT with every head, and of ResNets (BiT).

https://github.com/google-research/big_vision. Its positions are at the root and have no
entry of the class token, and blocks can be stacked.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints.code_bases import linen, linen_names, links
from vit_jax.checkpoints.code_bases.code_base import ANY, CodeBase, ParameterShapes
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import Contents, Detected, Shapes
from vit_jax.checkpoints.positions import POSITIONS, Grid
from vit_jax.checkpoints.weights import Weight
from vit_jax.models import bit, variants
from vit_jax.models.bit import BiT
from vit_jax.models.mixer import Mixer
from vit_jax.models.model import Model
from vit_jax.models.vit import ViT


def recognise(contents: Contents, overrides: Mapping[str, Any]) -> Detected | None:
  if contents.container != 'npz':
    return None
  weights, notes = linen_names.parameters(contents)
  shapes = Shapes(contents.path, weights)
  if linen.is_vit(shapes) and ('pos_embedding' in shapes or POSITIONS not in shapes):
    return _vit(shapes, overrides, weights, notes)
  if 'root_block/conv_root/kernel' in shapes:
    return _resnet(shapes, 'root_block/conv_root/kernel', 2, weights, notes)
  if 'conv_root/kernel' in shapes and not linen.is_vit(shapes):
    return _resnet(shapes, 'conv_root/kernel', 1, weights, notes)
  return None


def _vit(shapes: Shapes, overrides: Mapping[str, Any], weights: dict[str, Weight],
         notes: tuple[str, ...]) -> Detected:
  options, num_classes = linen.vit_options(shapes, overrides)
  options['position_prefix'], tokens = 'none', None
  if 'pos_embedding' in shapes:
    tokens = shapes.get('pos_embedding', 3)[1]
  else:
    options['position_embedding'] = 'sincos2d'
  return Detected(options, num_classes, tokens, weights, notes=notes)


def _resnet(shapes: Shapes, root: str, version: int, weights: dict[str, Weight],
            notes: tuple[str, ...]) -> Detected:
  # In TensorFlow's files the head is a convolution.
  head = shapes.shapes.get('head/kernel', (0,))
  variant = bit.in_version(variants.OF_CLASS['BiT'], version)
  return Detected(linen.resnet_options(shapes, root), head[-1], None, weights,
                  variant=variant, notes=notes)


def _links(model: Model, shapes: ParameterShapes) -> list[Link]:
  """Positions at the root, blocks stacked if the model scans."""
  result = []
  for link in linen.unrolled_links(model, shapes):
    if POSITIONS in link.ours:
      link = _root_positions(model)
    elif link.ours == ('cls',) and linen.has_class_entry(model):
      continue  # comes with the positions
    result.append(link)
  return linen.stacked(result) if model.options.scan else result


def _root_positions(model: Model) -> Link:
  if not linen.has_class_entry(model):
    return links.same('pos_embedding', POSITIONS)
  # There, positions are added before the class token is prepended, so its entry
  # belongs to the token. Recognised files have no entry.
  return Link(
      ('cls', 'pos_embedding'), ('cls', POSITIONS),
      lambda cls, table: (
          cls, np.concatenate([np.zeros_like(cls), table], axis=1)),
      lambda cls, table: (cls + table[:, :1], table[:, 1:]))


def _write(path: epath.Path, model: Model, grid: Grid | None, interface: Interface,
           weights: dict[str, Weight], progress: Callable[[int], None]) -> list[str]:
  return linen.write(
      path, model, grid, interface,
      {f'params/{name}': w for name, w in weights.items()}, progress)


def _class_token(model: Model) -> str:
  pool = model.options.pool
  if not model.has_class_token or pool == 'token':
    return ''
  return f"a class token with pool '{pool}'"


CODE_BASE = CodeBase(
    "big_vision's npz", recognise, _links, _write, linen.POSITION_RESIZES,
    holds={
        ViT: {**linen.VIT, 'class_token': _class_token,
              'pool': ('token', 'gap', 'map', 'none'),
              'position_embedding': ('learned', 'sincos2d'), 'resnet_width': (0,),
              'resnet_blocks': ANY},  # () without a ResNet
        Mixer: linen.MIXER,
        BiT: linen.BIT,
    },
    format='big_vision', suffix='.npz')
