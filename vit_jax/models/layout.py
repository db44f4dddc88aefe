"""The two layouts of the same parameters: one subtree per block, or stacked.

Unrolled models keep `Transformer/encoderblock_0`, `encoderblock_1`, ...; models with
`scan=True` keep one `Transformer/encoderblock` whose arrays have a leading depth dim.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.models import blocks, vit
from vit_jax.models.model import Model

Params = dict[str, Any]  # nested by the parts of the names

_STACKED = 'encoderblock'


def unstack_blocks(params: Params) -> Params:
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


def init(model: Model, key: jax.Array, image_size: tuple[int, int]) -> Params:
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
  def draw(rest_key: jax.Array, block_keys: jax.Array) -> Params:
    params = _init(model.with_options(depth=0, scan=False), rest_key, image_size)
    block = blocks.Block(model.options)
    tokens = jnp.zeros((1, 1, model.options.width))
    stacked = jax.lax.map(
        lambda key: block.init(key, tokens)['params'], block_keys)
    # Without blocks nothing is left of an encoder with neither positions nor norms.
    rest = params.get('Transformer', {})
    return params | {'Transformer': rest | {_STACKED: stacked}}

  params = draw(rest_key, jax.random.split(blocks_key, model.options.depth))
  return params if model.options.scan else unstack_blocks(params)


def _init(model: Model, key: jax.Array, image_size: tuple[int, int]) -> Params:
  return dict(model.init(key, jnp.zeros((1, *image_size, 3)))['params'])

