"""Hugging Face's ViT: parameter names and config.json.

https://github.com/huggingface/transformers. Version 5 renamed the parts of a block in
memory but still writes the older names, so both are read and the older written.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints import safetensors_file
from vit_jax.checkpoints.code_bases import links, pixels
from vit_jax.checkpoints.code_bases.code_base import (
  ANY,
  PLAIN,
  SIZES,
  UNSAID,
  CodeBase,
  ParameterShapes,
)
from vit_jax.checkpoints.code_bases.interface import (
  Interface,
  of_hugging_face,
  processor,
)
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import (
  Contents,
  Detected,
  Shapes,
  checked_heads,
  grid_in_config,
  heads_of_size,
  nonsense_is_an_error,
)
from vit_jax.checkpoints.code_bases.torch_layout import (
  convolution,
  dense,
  heads_in,
  heads_out,
  norm,
)
from vit_jax.checkpoints.positions import (
  POSITIONS,
  Grid,
  cubic_kernel,
  image_size_of,
)
from vit_jax.checkpoints.weights import Weight
from vit_jax.models.model import Model
from vit_jax.models.vit import ViT
from vit_jax.runtime.errors import UserError

# Part of a block: (our name, old name on disk, name in memory of version 5).
_HEADS_IN = (
    ('query', 'attention.attention.query', 'attention.q_proj'),
    ('key', 'attention.attention.key', 'attention.k_proj'),
    ('value', 'attention.attention.value', 'attention.v_proj'),
)
_HEADS_OUT = ('attention.output.dense', 'attention.o_proj')
_DENSE = (
    ('Dense_0', 'intermediate.dense', 'mlp.fc1'),
    ('Dense_1', 'output.dense', 'mlp.fc2'),
)
_NORMS = (('LayerNorm_0', 'layernorm_before'), ('LayerNorm_1', 'layernorm_after'))

# hidden_act -> gelu. "gelu_fast" and "gelu_new" are two spellings of the tanh form.
_GELU = {'gelu': 'exact', 'gelu_new': 'tanh', 'gelu_pytorch_tanh': 'tanh',
         'gelu_fast': 'tanh', 'quick_gelu': 'quick'}
_ACT = {'exact': 'gelu', 'tanh': 'gelu_pytorch_tanh', 'quick': 'quick_gelu'}


def cubic(new: int, old: int) -> np.ndarray:
  """Four taps with a = -0.75, repeated edges, no antialiasing: PyTorch's bicubic."""
  where = (np.arange(new) + 0.5) * old / new - 0.5
  low = np.floor(where).astype(int)
  matrix = np.zeros((new, old))
  for tap in (-1, 0, 1, 2):
    weight = cubic_kernel(where - low - tap, -0.75)
    np.add.at(matrix, (np.arange(new), np.clip(low + tap, 0, old - 1)), weight)
  return matrix


def recognise(contents: Contents, overrides: Mapping[str, Any], *, version5: bool
              ) -> Detected | None:
  """The model of ViTModel or ViTForImageClassification."""
  shapes = Shapes(contents.path, contents.weights)
  prefix = 'vit.' if 'vit.embeddings.cls_token' in shapes else ''
  named_so = f'{prefix}layers.0.layernorm_before.weight' in shapes
  if contents.container != 'tensors' or named_so != version5 or not any(
      name.removeprefix('vit.') == 'embeddings.patch_embeddings.projection.weight'
      for name in shapes):
    return None
  with nonsense_is_an_error(contents.path):
    return _detected(contents, shapes, overrides, prefix, version5)


def _detected(contents: Contents, shapes: Shapes, overrides: Mapping[str, Any],
              prefix: str, version5: bool) -> Detected:
  config = contents.config
  kind = config.get('model_type', 'vit')
  if kind != 'vit':
    raise UserError(
        f"{shapes.path}: config.json says model_type {kind!r}; expected 'vit'. Other "
        'architectures are not supported.')
  block = f'{prefix}layers' if version5 else f'{prefix}encoder.layer'
  width, _, *patch = shapes.get(
      f'{prefix}embeddings.patch_embeddings.projection.weight', 4)
  depth = shapes.count(f'{block}.')
  mlp_dim = shapes.get(
      f'{block}.0.{_DENSE[0][1 + version5]}.weight', 2)[0]
  query = f'{block}.0.{_HEADS_IN[0][1 + version5]}'
  pooler = 'pooler.dense.weight'
  _check_sizes(shapes.path, config, {
      'hidden_size': width, 'num_hidden_layers': depth, 'intermediate_size': mlp_dim,
      'patch_size': patch})
  options = {
      'patch_size': tuple(patch), 'width': width, 'depth': depth, 'mlp_dim': mlp_dim,
      'gelu': _gelu(contents, overrides),
      'num_heads': (overrides.get('num_heads') or config.get('num_attention_heads')
                    or heads_of_size(shapes.path, width, depth, mlp_dim)),
      'pool': 'token', **pixels.in_preprocessor(contents.preprocessor),
      'layer_norm_eps': _eps(config.get('layer_norm_eps', 1e-12)),
      'qkv_bias': f'{query}.bias' in shapes,
      'representation_size': shapes.get(pooler, 2)[0] if pooler in shapes else 0,
  }
  if pooler in shapes and config.get('pooler_act', 'tanh') != 'tanh':
    raise UserError(
        f'{shapes.path}: config.json says pooler_act {config["pooler_act"]!r}; only '
        'tanh is supported.')
  head = 'classifier.weight'
  classes = shapes.get(head, 2)[0] if head in shapes else 0
  tokens = shapes.get(f'{prefix}embeddings.position_embeddings', 3)[1] - 1
  return Detected(
      checked_heads(options), classes, tokens, contents.weights,
      grid_in_config(config.get('image_size'), patch),
      interface=of_hugging_face(config, contents.preprocessor))


def _check_sizes(path: epath.Path, config: Mapping[str, Any],
                 stored: Mapping[str, Any]) -> None:
  """Raises UserError if a config belongs to weights of other sizes."""
  for name, size in stored.items():
    said = config.get(name, size)
    if isinstance(size, list) and isinstance(said, int):
      said = [said] * len(size)
    if said != size:
      raise UserError(
          f'{path}: config.json says {name} {said!r}, the weights have {size!r}. Give '
          'the config.json that belongs to the weights.')


def _eps(said: Any) -> float:
  if isinstance(said, bool):
    raise ValueError(f'layer_norm_eps is {said}')
  return float(said)


def _gelu(contents: Contents, overrides: Mapping[str, Any]) -> str:
  act = contents.config.get('hidden_act', 'gelu')
  if act not in _GELU and 'gelu' not in overrides:
    raise UserError(
        f'{contents.path}: config.json says hidden_act {act!r}; known are '
        f'{", ".join(_GELU)}. Give --gelu=... to choose one of exact, tanh, quick.')
  return _GELU.get(act, 'exact')


def _links(model: Model, shapes: ParameterShapes, *, version5: bool) -> list[Link]:
  """Links of ViTForImageClassification, or of ViTModel for a model without head."""
  del shapes
  prefix = 'vit.' if model.num_classes else ''
  result = [
      links.same(f'{prefix}embeddings.cls_token', 'cls'),
      _positions(model, f'{prefix}embeddings.position_embeddings'),
      convolution(
          f'{prefix}embeddings.patch_embeddings.projection.weight',
          'embedding/kernel'),
      links.same(
          f'{prefix}embeddings.patch_embeddings.projection.bias', 'embedding/bias'),
      *norm(f'{prefix}layernorm', 'Transformer/encoder_norm'),
  ]
  for i in range(model.options.depth):
    theirs = f'{prefix}layers.{i}' if version5 else f'{prefix}encoder.layer.{i}'
    result += _block(model, theirs, f'Transformer/encoderblock_{i}', int(version5))
  if model.options.representation_size:
    result += dense('pooler.dense', 'pre_logits')
  if model.num_classes:
    result += dense('classifier', 'head')
  return result


def _block(model: Model, theirs: str, ours: str, version: int) -> list[Link]:
  options = model.options
  attention = f'{ours}/MultiHeadDotProductAttention_0'
  result = []
  for our_part, their_part in _NORMS:
    result += norm(f'{theirs}.{their_part}', f'{ours}/{our_part}')
  for our_part, *their_parts in _HEADS_IN:
    result += heads_in(f'{theirs}.{their_parts[version]}', f'{attention}/{our_part}',
                       options.num_heads, options.qkv_bias)
  result += heads_out(
      f'{theirs}.{_HEADS_OUT[version]}', attention, options.num_heads)
  for our_part, *their_parts in _DENSE:
    result += dense(
        f'{theirs}.{their_parts[version]}', f'{ours}/MlpBlock_0/{our_part}')
  return result


def _positions(model: Model, theirs: str) -> Link:
  if model.options.position_prefix != 'none':
    return links.same(theirs, POSITIONS)
  return links.one(
      theirs, POSITIONS, lambda x: x[:, 1:],
      lambda x: np.concatenate([np.zeros_like(x[:, :1]), x], axis=1))


def _write(folder: epath.Path, model: Model, grid: Grid | None, interface: Interface,
           weights: dict[str, Weight], progress: Callable[[int], None]) -> list[str]:
  assert grid is not None  # positions are learned
  preprocessor, missing = _preprocessor(model, grid, interface)
  # What AutoModel takes as the dtype to load them in.
  dtype = next(iter(weights.values())).dtype.name
  safetensors_file.write_folder(
      folder, weights, {
          'config.json': _config(model, grid, interface.class_names, dtype),
          'preprocessor_config.json': preprocessor}, progress)
  return missing


def _config(model: Model, grid: Grid, class_names: Sequence[str], dtype: str
            ) -> dict[str, Any]:
  """config.json of a model that the format holds."""
  options = model.options
  names = class_names or [f'LABEL_{i}' for i in range(model.num_classes)]
  return {
      'architectures': [
          'ViTForImageClassification' if model.num_classes else 'ViTModel'],
      'model_type': 'vit',
      'hidden_size': options.width,
      'num_hidden_layers': options.depth,
      'num_attention_heads': options.num_heads,
      'intermediate_size': options.mlp_dim,
      'hidden_act': _ACT[options.gelu],
      'layer_norm_eps': options.layer_norm_eps,
      'image_size': _size(image_size_of(model, grid)),
      'patch_size': _size(options.patch_size),
      'num_channels': 3,
      'qkv_bias': options.qkv_bias,
      'pooler_output_size': options.representation_size or options.width,
      'pooler_act': 'tanh',
      'hidden_dropout_prob': 0.0,
      'attention_probs_dropout_prob': 0.0,
      'encoder_stride': options.patch_size[0],
      'dtype': dtype,
      'id2label': {str(i): name for i, name in enumerate(names)},
      'label2id': {name: i for i, name in enumerate(names)},
  }


def _preprocessor(model: Model, grid: Grid, interface: Interface
                  ) -> tuple[dict[str, Any], list[str]]:
  """(preprocessor_config.json, for AutoImageProcessor; what it cannot say)."""
  seen, missing = processor(interface, image_size_of(model, grid))
  return {
      'image_processor_type': 'ViTImageProcessor', **seen,
      'do_rescale': True,
      'rescale_factor': 1 / 255,
      'do_normalize': True,
      'image_mean': list(model.options.pixel_mean),
      'image_std': list(model.options.pixel_std),
  }, missing


def _size(size: Sequence[int]) -> int | list[int]:
  height, width = size
  return height if height == width else [height, width]


def _pre_logits(model: Model) -> str:
  if not (model.options.representation_size and model.num_classes):
    return ''
  return ('pre_logits together with a head (drop one with --representation_size=0 or '
          '--num_classes=0)')


CODE_BASE = CodeBase(
    'Hugging Face ViT', functools.partial(recognise, version5=False),
    functools.partial(_links, version5=False), _write, {'hf': cubic},
    holds={ViT: {
        'pool': ('token',), 'class_token': ('auto', 'yes'), **PLAIN,
        'resnet_width': (0,), 'position_embedding': ('learned',),
        'representation_size': _pre_logits, 'qkv_bias': (True, False),
        'position_prefix': ('class', 'all', 'none'), **SIZES, **UNSAID,
        'gelu': tuple(_ACT), 'resnet_blocks': ANY,  # () without a ResNet
    }},
    format='hf', full_title="Hugging Face's ViT",
    alternatives='timm or orbax', holds_pixels=True)

# Names that transformers 5 has in memory and writes only on request.
CODE_BASE_5 = dataclasses.replace(
    CODE_BASE, title='Hugging Face ViT (names of transformers 5)',
    recognise=functools.partial(recognise, version5=True),
    links=functools.partial(_links, version5=True), format='')
