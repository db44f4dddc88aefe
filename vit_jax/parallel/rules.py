"""How every array of the training state is laid out over the mesh.

Two tables: a parameter's path gives its logical dims, a logical dim gives its
mesh axis. Every parameter matches exactly one row.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from vit_jax.runtime.errors import UserError

# Pattern of the parameter path (full match) -> logical dims, in array order.
# Blocks stacked for a scan have a leading 'layers' dim, added by the code below.
# `vector` marks small arrays that every device holds whole.
LOGICAL_DIMS = (
    (r'(embedding|stem)/kernel',
     ('patch_height', 'patch_width', 'channels', 'width')),
    (r'(embedding|stem)/bias', ('vector',)),
    (r'cls|register_tokens|mask_embedding|MAPHead_0/probe',
     ('one', 'tokens', 'vector')),
    (r'Transformer/posembed_input/pos_embedding', ('one', 'tokens', 'width')),
    (r'.*LayerNorm_\d/(scale|bias)', ('vector',)),
    (r'(Transformer/(encoder|pre)_norm|pool_norm)/(scale|bias)', ('vector',)),
    (r'.*MultiHeadDotProductAttention_0/(query|key)_norm/(scale|bias)', ('vector',)),
    (r'Transformer/encoderblock(_\d+)?/layer_scale_\d', ('vector',)),
    (r'.*MultiHeadDotProductAttention_0/(query|key|value)/kernel',
     ('width', 'heads', 'head_size')),
    (r'.*MultiHeadDotProductAttention_0/(query|key|value)/bias',
     ('vector', 'head_size')),
    (r'.*MultiHeadDotProductAttention_0/out/kernel',
     ('heads', 'head_size', 'width')),
    (r'.*MultiHeadDotProductAttention_0/out/bias', ('vector',)),
    (r'.*MlpBlock_0/Dense_0/kernel', ('width', 'mlp')),
    (r'.*MlpBlock_0/Dense_1/kernel', ('mlp', 'width')),
    (r'.*MlpBlock_0/Dense_\d/bias', ('vector',)),
    (r'MixerBlock_\d+/token_mixing/Dense_0/kernel', ('tokens', 'mlp')),
    (r'MixerBlock_\d+/token_mixing/Dense_1/kernel', ('mlp', 'tokens')),
    (r'MixerBlock_\d+/channel_mixing/Dense_0/kernel', ('width', 'mlp')),
    (r'MixerBlock_\d+/channel_mixing/Dense_1/kernel', ('mlp', 'width')),
    (r'MixerBlock_\d+/(token|channel)_mixing/Dense_\d/bias', ('vector',)),
    (r'pre_head_layer_norm/(scale|bias)', ('vector',)),
    (r'(root_block/)?conv_root/kernel',
     ('patch_height', 'patch_width', 'channels', 'vector')),
    (r'block\d+/unit\d+/conv(\d|_proj)/kernel',
     ('patch_height', 'patch_width', 'channels', 'features')),
    (r'(block\d+/unit\d+/gn(\d|_proj)|gn_root|norm-pre-head)/(scale|bias)',
     ('vector',)),
    (r'pre_logits/kernel', ('width', 'representation')),
    (r'pre_logits/bias', ('vector',)),
    (r'head/kernel', ('width_or_representation', 'classes')),
    (r'head/bias', ('vector',)),
)

# Logical dim -> mesh axis; None: not divided.
MESH_AXES = {
    'layers': None, 'one': None, 'tokens': None, 'channels': None,
    'patch_height': None, 'patch_width': None, 'vector': None,
    'width': 'fsdp', 'width_or_representation': 'fsdp', 'features': 'fsdp',
    'heads': None,
    'head_size': None, 'mlp': None, 'representation': None, 'classes': None,
}

_STACKED = re.compile(r'Transformer/encoderblock/.*')


def path_name(path: Iterable[Any]) -> str:
  """'a/b/c' from a pytree path."""
  def part(key: Any) -> str:
    for name in ('key', 'name', 'idx'):
      if hasattr(key, name):
        return str(getattr(key, name))
    return str(key)
  return '/'.join(part(key) for key in path)


def logical_dims(name: str, ndim: int) -> tuple[str, ...]:
  """Logical dims of one parameter; a path without exactly one row is an error."""
  rows = [dims for pattern, dims in LOGICAL_DIMS if re.fullmatch(pattern, name)]
  if len(rows) != 1:
    raise ValueError(
        f'Parameter {name!r} matches {len(rows)} rows of LOGICAL_DIMS in '
        f'{__file__}; it must match exactly one.')
  dims = ('layers', *rows[0]) if _STACKED.fullmatch(name) else rows[0]
  if len(dims) != ndim:
    raise ValueError(f'Parameter {name!r} has {ndim} dims, its row names {dims}.')
  return dims


def partition_spec(
    name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
  """How a parameter is divided; raises UserError where a dim does not divide."""
  axes = []
  for dim, size in zip(logical_dims(name, len(shape)), shape, strict=True):
    axis = MESH_AXES[dim]
    if axis and size % mesh.shape[axis]:
      raise UserError(
          f'Parameter {name} of shape {shape} cannot be divided: {dim} {size} over '
          f'mesh axis {axis} of {mesh.shape[axis]}. Choose config.mesh.{axis} '
          f'among the divisors of {size}.')
    # An axis of one device divides nothing; leaving it out keeps specs simple.
    axes.append(axis if axis and mesh.shape[axis] > 1 else None)
  while axes and axes[-1] is None:
    axes.pop()
  return PartitionSpec(*axes)


def state_shardings(state: Any, mesh: Mesh) -> Any:
  """Shardings of a whole (abstract) training state.

  Optimizer state and EMA hold copies of the parameter tree somewhere below
  other containers, so a leaf whose path ends in a parameter's path and whose
  shape is that parameter's is laid out like it. All other leaves (counters,
  Adafactor's factored moments) are replicated: they are small.
  """
  params = {path_name(path): x.shape for path, x
            in jax.tree_util.tree_leaves_with_path(state.params)}

  def sharding(path: Iterable[Any], x: Any) -> NamedSharding:
    parts = path_name(path).split('/')
    for i in range(len(parts)):
      name = '/'.join(parts[i:])
      if params.get(name) == x.shape:
        return NamedSharding(mesh, partition_spec(name, x.shape, mesh))
    return NamedSharding(mesh, PartitionSpec())

  return jax.tree_util.tree_map_with_path(sharding, state)


def total_bytes(tree: Any) -> int:
  """Bytes of a whole (abstract) tree."""
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def bytes_per_device(tree: Any, shardings: Any) -> int:
  """Bytes that one device holds of an abstract tree laid out by `shardings`."""
  sizes = jax.tree.map(
      lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize,
      tree, shardings)
  return sum(jax.tree.leaves(sizes))


def bytes_held(tree: Any) -> int:
  """`bytes_per_device` of an abstract tree whose leaves carry their shardings."""
  return bytes_per_device(tree, jax.tree.map(lambda x: x.sharding, tree))
