"""The two layouts of the same parameters: one subtree per block, or stacked.

Unrolled models keep `Transformer/encoderblock_0`, `encoderblock_1`, ...; models with
`scan=True` keep one `Transformer/encoderblock` whose arrays have a leading depth dim.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.models import blocks, vit

_STACKED = 'encoderblock'
_NUMBERED = re.compile(r'encoderblock_(\d+)')


def stack_blocks(params: dict) -> dict:
  """Unrolled to stacked; stacked ones, or without blocks, come back as they are."""
  encoder = params.get('Transformer')
  if encoder is None or _STACKED in encoder:
    return params
  numbered, rest = {}, {}
  for name, value in encoder.items():
    match = _NUMBERED.fullmatch(name)
    if match:
      numbered[int(match[1])] = value
    else:
      rest[name] = value
  if not numbered or sorted(numbered) != list(range(len(numbered))):
    raise ValueError(
        f'Transformer has the blocks {sorted(numbered)}; expected all of 0, 1, 2, ... '
        'without gaps. The parameters are incomplete, or not those of a ViT.')
  stacked = jax.tree.map(_stack, *(numbered[i] for i in range(len(numbered))))
  return params | {'Transformer': rest | {_STACKED: stacked}}


def unstack_blocks(params: dict) -> dict:
  """Stacked to unrolled; unrolled ones, or without blocks, come back as they are."""
  encoder = params.get('Transformer')
  if encoder is None or _STACKED not in encoder:
    return params
  stacked = encoder[_STACKED]
  depths = {len(x) for x in jax.tree.leaves(stacked)}
  if len(depths) != 1:
    raise ValueError(
        f'the arrays of Transformer/{_STACKED} have leading dims {sorted(depths)}; '
        'expected one number, the depth. The parameters are not those of one model.')
  rest = {name: value for name, value in encoder.items() if name != _STACKED}
  unrolled = {
      f'{_STACKED}_{i}': jax.tree.map(lambda x, i=i: x[i], stacked)
      for i in range(depths.pop())}
  return params | {'Transformer': rest | unrolled}


def init(model: nn.Module, key: jax.Array, image_size: tuple[int, int]) -> dict:
  """Initial parameters for (height, width) images, in the model's own layout.

  The same key gives the same values in both layouts. Works under `jax.jit` (with any
  output shardings) and `jax.eval_shape`. Only a ViT has two layouts.
  """
  if not isinstance(model, vit.ViT):
    return jax.jit(functools.partial(_init, model, image_size=image_size))(key)
  rest_key, blocks_key = jax.random.split(key)

  # Compiled as a whole, so that the forward passes of Flax's init are dropped as
  # unused. On a CPU, compiling the random draws takes seconds and running them a
  # fraction of one, hence one program for all blocks and not one per block.
  @jax.jit
  def draw(rest_key, block_keys):
    params = _init(model.clone(depth=0, scan=False), rest_key, image_size)
    block = blocks.Block(model.block_config())
    tokens = jnp.zeros((1, 1, model.width))
    stacked = jax.lax.map(
        lambda key: block.init(key, tokens)['params'], block_keys)
    return params | {'Transformer': params['Transformer'] | {_STACKED: stacked}}

  params = draw(rest_key, jax.random.split(blocks_key, model.depth))
  return params if model.scan else unstack_blocks(params)


def _init(model, key, image_size):
  return model.init(key, jnp.zeros((1, *image_size, 3)))['params']


def _stack(*arrays):
  # NumPy stays NumPy: converters must not need a device.
  if all(isinstance(x, np.ndarray) for x in arrays):
    return np.stack(arrays)
  return jnp.stack(arrays)
