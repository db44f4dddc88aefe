"""The Vision Transformer: patches -> positions -> blocks -> norm -> head.

Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929. Parameters carry the names
and shapes of the original release's npz files. What is unusual here:
  - every intermediate comes back by name, next to the logits;
  - the blocks are unrolled or scanned (`scan`), with the same results; the layout of
    the parameters differs, see `layout.py`;
  - logits and LayerNorm statistics are float32 whatever the compute dtype; so is the
    softmax of the attention, unless `softmax_dtype` says otherwise.

Dims: B batch, H W image and h w grid, L tokens, D width, N heads, K head size, F MLP
width, C classes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.models import blocks, heads, patches, positions, resnet

# What a block's backward pass takes from the forward pass instead of recomputing it.
REMAT_POLICIES = {
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': jax.checkpoint_policies.dots_saveable,
    'dots_no_batch': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Encoder(nn.Module):
  """Adds prefix and positions to the patches, then applies blocks and a last norm."""
  config: blocks.BlockConfig
  depth: int
  position_embedding: str
  stochastic_depth: float
  scan: bool
  remat: str
  pre_norm: bool = False
  last_norm: bool = True

  @nn.compact
  def __call__(self, grid, prefix, entries, key, attention_weights):
    """Of the tokens in `prefix`, (1, n, D) each, the first `entries` have positions."""
    config = self.config
    B, h, w, D = grid.shape
    tokens = grid.reshape(B, h * w, D)  # (B, h*w, D), row by row
    tokens = jnp.concatenate([*(_tile(t, tokens) for t in prefix), tokens], axis=1)
    table = positions.Positions(
        self.position_embedding, entries, config.param_dtype,
        name='posembed_input')(h, w, D)  # (1, entries + h*w, D)
    without = jnp.zeros((1, tokens.shape[1] - table.shape[1], D), table.dtype)
    table = jnp.concatenate([table[:, :entries], without, table[:, entries:]], axis=1)
    tokens = tokens + table.astype(tokens.dtype)  # (B, L, D)

    # The key of the input first, then one per block.
    keys = None if key is None else jax.random.split(key, self.depth + 1)
    tokens = blocks.dropout(
        tokens, config.dropout, None if keys is None else keys[0])
    if self.pre_norm:
      tokens = config.layer_norm('pre_norm')(tokens)
    tokens, outputs = self._blocks(
        tokens, None if keys is None else keys[1:], attention_weights)
    if self.last_norm:
      tokens = config.layer_norm('encoder_norm')(tokens)
    return tokens, outputs

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
  # 'token' (the first token, so the class token if there is one), 'gap' (mean over
  # patches), 'map' (attention pooling over patches) or 'none' (all tokens).
  pool: str = 'token'
  pool_norm: bool = False  # the last norm comes after pooling instead of before
  representation_size: int = 0  # width of the tanh layer before the head; 0: none
  class_token: str = 'auto'  # 'yes', 'no', 'auto': only for pool 'token'
  registers: int = 0  # extra tokens after the class token
  position_embedding: str = 'learned'  # or 'sincos2d'
  # Which tokens before the patches have positions: 'class', 'all' (registers too) or
  # 'none'.
  position_prefix: str = 'class'
  patch_bias: bool = True
  pre_norm: bool = False  # a norm between the positions and the blocks, as in CLIP
  qkv_bias: bool = True
  qk_norm: bool = False  # a norm over the head size of queries and keys
  layer_scale: float = 0.0  # initial factor of every branch; 0: no such parameters
  # A ResNet in front of the patches: channels of its root, 0 for no ResNet, and units
  # per block, () for the root alone. Its eps and their form are options of `resnet`.
  resnet_width: int = 0
  resnet_blocks: tuple[int, ...] = ()
  group_norm_eps: float = 0.0
  std_conv_eps: float = 0.0
  std_conv_eps_form: str = 'auto'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  stochastic_depth: float = 0.0  # rate of the last block; from 0, linear over depth
  head_bias_init: float = 0.0
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'  # or 'exact', 'quick'
  dtype: Any = jnp.float32  # of the computation
  param_dtype: Any = jnp.float32
  scan: bool = False
  remat: str = 'none'  # or a name of REMAT_POLICIES
  projection: str = 'auto'  # form of the blocks' products: '2d', '3d'
  softmax_dtype: str = 'float32'  # of the attention weights; or 'compute': `dtype`

  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False, attention_weights: bool = False
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates).

    Args:
      images: (B, H, W, 3) float in [-1, 1]; the patch size divides H and W, or the
        size of the ResNet's last feature map.
      train: apply dropout and stochastic depth; if any rate is positive, this needs
        `rngs={'dropout': key}`.
      attention_weights: add (B, N, L, L) 'attention_00', ... to the intermediates.

    Intermediates: 'patch_embedding' (B, h, w, D); 'block_00', ... (B, L, D), the
    output of each block; 'encoder_norm' (B, L, D), what is pooled, so not normalised
    with `pool_norm`; 'pre_logits', the input of the head; 'logits'. Without a head,
    the logits are the pre_logits. With pool 'map' the requested attention weights
    include 'attention_pool' (B, N, 1, h*w). A ResNet adds 'root' and 'block1', ...
    """
    patches.check_images(images)
    maps = {}
    if self.resnet_width:
      maps = resnet.features(
          resnet.ResNetConfig.of(self, version=1), self.resnet_width,
          self.resnet_blocks, images)
      images = list(maps.values())[-1]
    grid = patches.embed(self, images, 'embedding', self.patch_bias)  # (B, h, w, D)

    key = None
    if train and (self.dropout or self.attention_dropout or self.stochastic_depth):
      key = self.make_rng('dropout')
    prefix = self._prefix()
    entries = {'none': 0, 'class': int(self.has_class_token),
               'all': self.prefix_length}[self.position_prefix]
    tokens, intermediates = Encoder(
        self.block_config(), self.depth, self.position_embedding,
        self.stochastic_depth, self.scan, self.remat, self.pre_norm,
        not self.pool_norm, name='Transformer')(
            grid, prefix, entries, key, attention_weights)

    x, weights = self._pool(tokens)
    if self.representation_size:
      x = jnp.tanh(nn.Dense(
          self.representation_size, dtype=self.dtype, param_dtype=self.param_dtype,
          name='pre_logits')(x))
    logits = heads.classify(self, x)
    if weights is not None and attention_weights:
      intermediates['attention_pool'] = weights
    return logits, maps | intermediates | {
        'patch_embedding': grid, 'encoder_norm': tokens, 'pre_logits': x,
        'logits': logits}

  @property
  def has_class_token(self) -> bool:
    return {'auto': self.pool == 'token', 'yes': True, 'no': False}[self.class_token]

  @property
  def prefix_length(self) -> int:
    """Number of tokens before the patches."""
    return int(self.has_class_token) + self.registers

  def _prefix(self):
    """The learned tokens that come before the patches, each (1, n, D)."""
    tokens = []
    if self.has_class_token:
      tokens.append(self.param(
          'cls', nn.initializers.zeros, (1, 1, self.width), self.param_dtype))
    if self.registers:
      tokens.append(self.param(
          'register_tokens', nn.initializers.normal(0.02),
          (1, self.registers, self.width), self.param_dtype))
    return tokens

  def _pool(self, tokens):
    """(B, L, D) -> (B, D), or all tokens; and the weights of attention pooling."""
    config, weights = self.block_config(), None
    patch_tokens = tokens[:, self.prefix_length:]
    if self.pool == 'token':
      x = tokens[:, 0]
    elif self.pool == 'gap':
      x = jnp.mean(patch_tokens, axis=1)
    elif self.pool == 'map':
      # Plain attention, whatever the options of the blocks.
      plain = dataclasses.replace(config, qk_norm=False, qkv_bias=True)
      x, weights = heads.AttentionPooling(plain, name='MAPHead_0')(patch_tokens)
    else:
      x = tokens
    if self.pool_norm:
      x = config.layer_norm('pool_norm')(x)
    return x, weights

  def block_config(self) -> blocks.BlockConfig:
    """What the blocks and the attention pooling need to know of this model."""
    names = [f.name for f in dataclasses.fields(blocks.BlockConfig)]
    return blocks.BlockConfig(**{name: getattr(self, name) for name in names})


def _tile(token: jax.Array, tokens: jax.Array) -> jax.Array:
  """Repeats (1, n, D) for every example, in the dtype of `tokens`: (B, n, D)."""
  return jnp.broadcast_to(
      token.astype(tokens.dtype), (tokens.shape[0], *token.shape[1:]))
