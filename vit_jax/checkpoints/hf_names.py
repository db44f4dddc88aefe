"""Parameter names and config.json of Hugging Face's ViT.

Linear layers are (out, in) there. Transformers 5 renamed the parts of a block in
memory but still writes the older names, so both are read and the older written.
"""

import numpy as np

from vit_jax.checkpoints import names
from vit_jax.checkpoints.jax_names import POSITIONS
from vit_jax.checkpoints.names import Link
from vit_jax.models import vit
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
GELU = {'gelu': 'exact', 'gelu_new': 'tanh', 'gelu_pytorch_tanh': 'tanh',
        'gelu_fast': 'tanh', 'quick_gelu': 'quick'}
_ACT = {'exact': 'gelu', 'tanh': 'gelu_pytorch_tanh', 'quick': 'quick_gelu'}


def links(model, shapes: dict) -> list[Link]:
  """Links of ViTForImageClassification, or of ViTModel for a model without head."""
  return _links(model, version5=False)


def links_version5(model, shapes: dict) -> list[Link]:
  """The same under the names of transformers 5 in memory."""
  return _links(model, version5=True)


def _links(model, *, version5):
  _refuse(model)
  prefix = 'vit.' if model.num_classes else ''
  result = [
      names.same(f'{prefix}embeddings.cls_token', 'cls'),
      _positions(model, f'{prefix}embeddings.position_embeddings'),
      names.convolution(
          f'{prefix}embeddings.patch_embeddings.projection.weight',
          'embedding/kernel'),
      names.same(
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


def norm(theirs: str, ours: str) -> list[Link]:
  return [names.same(f'{theirs}.weight', f'{ours}/scale'),
          names.same(f'{theirs}.bias', f'{ours}/bias')]


def dense(theirs: str, ours: str) -> list[Link]:
  return [names.matrix(f'{theirs}.weight', f'{ours}/kernel'),
          names.same(f'{theirs}.bias', f'{ours}/bias')]


def heads_out(theirs: str, ours: str, num_heads: int) -> list[Link]:
  """(D, N*K) there, (N, K, D) here."""
  def read(x):
    return x.T.reshape(num_heads, -1, x.shape[0])
  def write(x):
    return x.reshape(-1, x.shape[-1]).T
  return [names.one(f'{theirs}.weight', f'{ours}/out/kernel', read, write),
          names.same(f'{theirs}.bias', f'{ours}/out/bias')]


def heads_in(theirs: str, ours: str, num_heads: int, bias: bool = True) -> list[Link]:
  """(N*K, D) there, (D, N, K) here."""
  result = [names.one(
      f'{theirs}.weight', f'{ours}/kernel',
      lambda x: x.T.reshape(x.shape[1], num_heads, -1),
      lambda x: x.reshape(x.shape[0], -1).T)]
  if bias:
    result.append(names.one(
        f'{theirs}.bias', f'{ours}/bias',
        lambda x: x.reshape(num_heads, -1), lambda x: x.reshape(-1)))
  return result


def config(model, grid) -> dict:
  """config.json of a model that `links` accepts."""
  options = model.options
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
      'image_size': _size([g * p for g, p in zip(grid, model.strides, strict=True)]),
      'patch_size': _size(options.patch_size),
      'num_channels': 3,
      'qkv_bias': options.qkv_bias,
      'pooler_output_size': options.representation_size or options.width,
      'pooler_act': 'tanh',
      'hidden_dropout_prob': 0.0,
      'attention_probs_dropout_prob': 0.0,
      'encoder_stride': options.patch_size[0],
      'dtype': 'float32',
      'id2label': {str(i): f'LABEL_{i}' for i in range(model.num_classes)},
      'label2id': {f'LABEL_{i}': i for i in range(model.num_classes)},
  }


def _block(model, theirs, ours, version):
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


def _positions(model, theirs):
  if model.options.position_prefix != 'none':
    return names.same(theirs, POSITIONS)
  return names.one(
      theirs, POSITIONS, lambda x: x[:, 1:],
      lambda x: np.concatenate([np.zeros_like(x[:, :1]), x], axis=1))


def _size(size):
  height, width = size
  return height if height == width else [height, width]


def _refuse(model):
  if not isinstance(model, vit.ViT):
    raise UserError(
        f"Hugging Face's ViT cannot hold a {type(model).__name__}; convert to another "
        'format, such as orbax.')
  options = model.options
  refused = {
      f"pool '{options.pool}'": options.pool != 'token',
      "class_token 'no'": options.class_token == 'no',
      'registers': options.registers,
      'qk_norm': options.qk_norm,
      'layer_scale': options.layer_scale,
      'pool_norm': options.pool_norm,
      'pre_norm': options.pre_norm,
      'a patch embedding without bias': not options.patch_bias,
      'a ResNet before the Transformer': options.resnet_width,
      'position_embedding sincos2d': options.position_embedding == 'sincos2d',
      'pre_logits together with a head (drop one with --representation_size=0 or '
      '--num_classes=0)': options.representation_size and model.num_classes,
  }
  parts = [part for part, present in refused.items() if present]
  if parts:
    raise UserError(
        f"Hugging Face's ViT has no place for {', '.join(parts)}. Convert to a format "
        'that has, such as timm or orbax.')
