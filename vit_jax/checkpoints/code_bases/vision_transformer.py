"""vision_transformer, the original code: npz files of ViT, hybrids and MLP-Mixer.

https://github.com/google-research/vision_transformer
"""

import math
from collections.abc import Mapping
from typing import Any

from vit_jax.checkpoints.code_bases import linen, linen_names
from vit_jax.checkpoints.code_bases.code_base import ANY, CodeBase, ParameterShapes
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import Contents, Detected, Shapes
from vit_jax.checkpoints.positions import POSITIONS
from vit_jax.checkpoints.weights import Weight
from vit_jax.models import variants
from vit_jax.models.mixer import Mixer
from vit_jax.models.model import Model
from vit_jax.models.vit import ViT


def recognise(contents: Contents, overrides: Mapping[str, Any]) -> Detected | None:
  if contents.container != 'npz':
    return None
  weights, notes = linen_names.parameters(contents)
  shapes = Shapes(contents.path, weights)
  if linen.is_vit(shapes) and POSITIONS in shapes and 'pos_embedding' not in shapes:
    options, num_classes = linen.vit_options(shapes, overrides)
    tokens = shapes.get(POSITIONS, 3)[1] - int('cls' in shapes)
    return Detected(options, num_classes, tokens, weights, notes=notes)
  if 'stem/kernel' in shapes and 'MixerBlock_0/LayerNorm_0/scale' in shapes:
    return _mixer(shapes, weights, notes)
  return None


def _mixer(shapes: Shapes, weights: dict[str, Weight], notes: tuple[str, ...]
           ) -> Detected:
  height, width, _, dim = shapes.get('stem/kernel', 4)
  tokens, token_mlp_dim = shapes.get('MixerBlock_0/token_mixing/Dense_0/kernel', 2)
  options = {
      'patch_size': (height, width), 'width': dim,
      'depth': shapes.count('MixerBlock_'), 'token_mlp_dim': token_mlp_dim,
      'mlp_dim': shapes.get('MixerBlock_0/channel_mixing/Dense_0/kernel', 2)[1]}
  side = math.isqrt(tokens)
  return Detected(
      options, linen.width_of(shapes, 'head'), tokens, weights,
      (side, side) if side * side == tokens else None, variants.OF_CLASS['Mixer'],
      notes)


def _links(model: Model, shapes: ParameterShapes) -> list[Link]:
  """Under Linen names, which files of all releases are given."""
  result = linen.unrolled_links(model, shapes)
  return linen.stacked(result) if model.options.scan else result


def _published_links(model: Model, shapes: ParameterShapes) -> list[Link]:
  """Under the names of the published files."""
  return [
      Link(tuple(map(linen_names.published, x.theirs)), x.ours, x.read, x.write)
      for x in linen.unrolled_links(model, shapes)]


def _class_token(model: Model) -> str:
  pool = model.options.pool
  if not model.has_class_token or pool in ('token', 'none'):
    return ''
  return f"a class token with pool '{pool}'"


def _pool(model: Model) -> str:
  pool = model.options.pool
  if pool == 'token':
    return '' if model.has_class_token else "pool 'token' without class token"
  return '' if pool in ('gap', 'none') else f"pool '{pool}'"


CODE_BASE = CodeBase(
    "vision_transformer's npz", recognise, _links, linen.write,
    linen.POSITION_RESIZES,
    holds={
        ViT: {**linen.VIT, 'class_token': _class_token, 'pool': _pool,
              'resnet_width': ANY, 'resnet_blocks': ANY},
        Mixer: linen.MIXER,
    },
    format='npz', suffix='.npz', written_links=_published_links,
    # Whatever the settings make of a file, its names are compared with the model's.
    strict=False)
