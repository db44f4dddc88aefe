"""The Vision Transformer: patches -> positions -> blocks -> norm -> head.

Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929. Parameters carry the names
and shapes of the original release's npz files. What is unusual here:
  - every intermediate comes back by name, next to the logits;
  - the blocks are unrolled or scanned (`scan`), with the same results; the layout of
    the parameters differs, see `layout.py`;
  - logits, LayerNorm statistics and softmax are float32 whatever the compute dtype.

Dims: B batch, H W image and h w grid, L tokens, D width, N heads, K head size, F MLP
width, C classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.models import blocks, heads, positions

# What a block's backward pass takes from the forward pass instead of recomputing it.
REMAT_POLICIES = {
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': jax.checkpoint_policies.dots_saveable,
    'dots_no_batch': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Encoder(nn.Module):
  """Adds positions to the patches, then applies the blocks and a last norm."""
  config: blocks.BlockConfig
  depth: int
  position_embedding: str
  stochastic_depth: float
  scan: bool
  remat: str

  @nn.compact
  def __call__(self, patches, cls, registers, key, attention_weights):
    config = self.config
    B, h, w, D = patches.shape
    tokens = patches.reshape(B, h * w, D)  # (B, h*w, D), row by row
    if cls is not None:
      tokens = jnp.concatenate([_tile(cls, tokens), tokens], axis=1)
    tokens = tokens + positions.Positions(
        self.position_embedding, cls is not None, config.param_dtype,
        name='posembed_input')(h, w, D).astype(tokens.dtype)
    if registers is not None:
      # Registers have no place in the image, hence no position entries.
      first = int(cls is not None)
      tokens = jnp.concatenate(
          [tokens[:, :first], _tile(registers, tokens), tokens[:, first:]], axis=1)

    # The key of the input first, then one per block.
    keys = None if key is None else jax.random.split(key, self.depth + 1)
    tokens = blocks.dropout(
        tokens, config.dropout, None if keys is None else keys[0])
    tokens, outputs = self._blocks(
        tokens, None if keys is None else keys[1:], attention_weights)
    return config.layer_norm('encoder_norm')(tokens), outputs

  def _blocks(self, tokens, keys, attention_weights):
    """Applies all blocks; returns the tokens and every block's outputs by name."""
    block = blocks.Block
    if self.remat != 'none':
      # Inside a scan nothing can be merged with the recomputation anyway.
      block = nn.remat(
          block, policy=REMAT_POLICIES[self.remat], prevent_cse=not self.scan)
    rates = None
    if keys is not None and self.stochastic_depth:
      rates = np.linspace(0, self.stochastic_depth, self.depth, dtype=np.float32)

    if self.scan:
      block = nn.scan(
          block, variable_axes={'params': 0}, split_rngs={'params': True},
          length=self.depth)
      tokens, stacked = block(
          self.config, attention_weights, name='encoderblock')(tokens, keys, rates)
      layers = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(self.depth)]
    else:
      layers = []
      for i in range(self.depth):
        tokens, layer = block(
            self.config, attention_weights, name=f'encoderblock_{i}')(
                tokens, None if keys is None else keys[i],
                None if rates is None else rates[i])
        layers.append(layer)

    outputs = {f'block_{i:02d}': layer['tokens'] for i, layer in enumerate(layers)}
    if attention_weights:
      outputs |= {
          f'attention_{i:02d}': layer['weights'] for i, layer in enumerate(layers)}
    return tokens, outputs


class ViT(nn.Module):
  """A Vision Transformer; `vit_jax.create` builds one from a name such as 'B/16'."""
  patch_size: tuple[int, int]  # (height, width)
  width: int
  depth: int
  mlp_dim: int
  num_heads: int
  num_classes: int = 0  # 0: no head
  # 'token' (class token), 'gap' (mean over patches), 'map' (attention pooling over
  # patches) or 'none' (all tokens: registers, if any, then patches).
  pool: str = 'token'
  representation_size: int = 0  # width of the tanh layer before the head; 0: none
  position_embedding: str = 'learned'  # or 'sincos2d'
  registers: int = 0  # extra tokens without position, after the class token
  dropout: float = 0.0
  attention_dropout: float = 0.0
  stochastic_depth: float = 0.0  # rate of the last block; from 0, linear over depth
  head_bias_init: float = 0.0
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'  # or 'exact'
  dtype: Any = jnp.float32  # of the computation
  param_dtype: Any = jnp.float32
  scan: bool = False
  remat: str = 'none'  # or a name of REMAT_POLICIES
  projection: str = 'auto'  # form of the q, k, v products: '2d', '3d'

  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False, attention_weights: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates).

    Args:
      images: (B, H, W, 3) float in [-1, 1], H and W divisible by the patch size.
      train: apply dropout and stochastic depth; if any rate is positive, this needs
        `rngs={'dropout': key}`.
      attention_weights: add (B, N, L, L) 'attention_00', ... to the intermediates.

    Intermediates: 'patch_embedding' (B, h, w, D); 'block_00', ... (B, L, D), the
    output of each block; 'encoder_norm' (B, L, D); 'pre_logits', the input of the
    head; 'logits'. Without a head, the logits are the pre_logits. With pool 'map'
    the requested attention weights include 'attention_pool' (B, N, 1, h*w).
    """
    _check_images(images, self.patch_size)
    config = self.block_config()
    patches = nn.Conv(
        self.width, kernel_size=self.patch_size, strides=self.patch_size,
        padding='VALID', dtype=self.dtype, param_dtype=self.param_dtype,
        name='embedding')(images)  # (B, h, w, D)

    cls = registers = key = None
    if self.pool == 'token':
      cls = self.param(
          'cls', nn.initializers.zeros, (1, 1, self.width), self.param_dtype)
    if self.registers:
      registers = self.param(
          'register_tokens', nn.initializers.normal(0.02),
          (1, self.registers, self.width), self.param_dtype)
    if train and (self.dropout or self.attention_dropout or self.stochastic_depth):
      key = self.make_rng('dropout')
    tokens, intermediates = Encoder(
        config, self.depth, self.position_embedding, self.stochastic_depth,
        self.scan, self.remat, name='Transformer')(
            patches, cls, registers, key, attention_weights)

    if self.pool == 'token':
      x = tokens[:, 0]
    elif self.pool == 'gap':
      x = jnp.mean(tokens[:, self.registers:], axis=1)
    elif self.pool == 'map':
      x, weights = heads.AttentionPooling(config, name='MAPHead_0')(
          tokens[:, self.registers:])
      if attention_weights:
        intermediates['attention_pool'] = weights
    else:
      x = tokens
    if self.representation_size:
      x = jnp.tanh(nn.Dense(
          self.representation_size, dtype=self.dtype, param_dtype=self.param_dtype,
          name='pre_logits')(x))
    logits = x.astype(jnp.float32)
    if self.num_classes:
      logits = nn.Dense(
          self.num_classes, dtype=jnp.float32, param_dtype=self.param_dtype,
          kernel_init=nn.initializers.zeros,
          bias_init=nn.initializers.constant(self.head_bias_init),
          name='head')(logits)
    return logits, intermediates | {
        'patch_embedding': patches, 'encoder_norm': tokens, 'pre_logits': x,
        'logits': logits}

  def block_config(self) -> blocks.BlockConfig:
    """What the blocks and the attention pooling need to know of this model."""
    return blocks.BlockConfig(
        num_heads=self.num_heads, mlp_dim=self.mlp_dim, dropout=self.dropout,
        attention_dropout=self.attention_dropout, layer_norm_eps=self.layer_norm_eps,
        gelu=self.gelu, dtype=self.dtype, param_dtype=self.param_dtype,
        projection=self.projection)


def _tile(token: jax.Array, tokens: jax.Array) -> jax.Array:
  """Repeats (1, n, D) for every example, in the dtype of `tokens`: (B, n, D)."""
  return jnp.broadcast_to(
      token.astype(tokens.dtype), (tokens.shape[0], *token.shape[1:]))


def _check_images(images, patch_size):
  ph, pw = patch_size
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
        f'images have shape {tuple(images.shape)}; expected (batch, height, width, 3). '
        'Add the batch dim, or convert the images to RGB.')
  _, H, W, _ = images.shape
  if not H or not W or H % ph or W % pw:
    raise ValueError(
        f'images are {H} x {W} pixels (height x width); expected multiples of the '
        f'patch size {ph} x {pw}. Resize or crop them, for example to '
        f'{max(H // ph, 1) * ph} x {max(W // pw, 1) * pw}, or choose another patch '
        'size.')
