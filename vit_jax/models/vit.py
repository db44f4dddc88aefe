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

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.config.sections import ModelSection
from vit_jax.models import blocks, heads, patches, positions, resnet
from vit_jax.models.model import Model

# What a block's backward pass takes from the forward pass instead of recomputing it.
REMAT_POLICIES = {
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': jax.checkpoint_policies.dots_saveable,
    'dots_no_batch': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Encoder(nn.Module):
  """Adds prefix and positions to the patches, then applies blocks and a last norm."""
  options: ModelSection

  @nn.compact
  def __call__(
      self, grid: jax.Array, prefix: list[jax.Array], entries: int,
      key: jax.Array | None, attention_weights: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Of the tokens in `prefix`, (1, n, D) each, the first `entries` have positions."""
    options = self.options
    B, h, w, D = grid.shape
    tokens = grid.reshape(B, h * w, D)  # (B, h*w, D), row by row
    tokens = jnp.concatenate([*(_tile(t, tokens) for t in prefix), tokens], axis=1)
    table = positions.Positions(
        options, entries, name='posembed_input')(h, w, D)  # (1, entries + h*w, D)
    without = jnp.zeros((1, tokens.shape[1] - table.shape[1], D), table.dtype)
    table = jnp.concatenate([table[:, :entries], without, table[:, entries:]], axis=1)
    tokens = tokens + table.astype(tokens.dtype)  # (B, L, D)

    # The key of the input first, then one per block.
    keys = None if key is None else jax.random.split(key, options.depth + 1)
    tokens = blocks.dropout(
        tokens, options.dropout, None if keys is None else keys[0])
    if options.pre_norm:
      tokens = blocks.layer_norm(options, 'pre_norm')(tokens)
    tokens, outputs = self._blocks(
        tokens, None if keys is None else keys[1:], attention_weights)
    if not options.pool_norm:
      tokens = blocks.layer_norm(options, 'encoder_norm')(tokens)
    return tokens, outputs

  def _blocks(
      self, tokens: jax.Array, keys: jax.Array | None, attention_weights: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Applies all blocks; returns the tokens and every block's outputs by name."""
    options, depth = self.options, self.options.depth
    block = blocks.Block
    if options.remat != 'none':
      # Inside a scan nothing can be merged with the recomputation anyway.
      block = nn.remat(
          block, policy=REMAT_POLICIES[options.remat], prevent_cse=not options.scan)
    rates = None
    if keys is not None and options.stochastic_depth:
      rates = np.linspace(0, options.stochastic_depth, depth, dtype=np.float32)

    if options.scan:
      block = nn.scan(
          block, variable_axes={'params': 0}, split_rngs={'params': True},
          length=depth)
      tokens, stacked = block(
          options, attention_weights, name='encoderblock')(tokens, keys, rates)
      layers = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(depth)]
    else:
      layers = []
      for i in range(depth):
        tokens, layer = block(
            options, attention_weights, name=f'encoderblock_{i}')(
                tokens, None if keys is None else keys[i],
                None if rates is None else rates[i])
        layers.append(layer)

    outputs = {f'block_{i:02d}': layer['tokens'] for i, layer in enumerate(layers)}
    if attention_weights:
      outputs |= {
          f'attention_{i:02d}': layer['weights'] for i, layer in enumerate(layers)}
    return tokens, outputs


class ViT(Model):
  """A Vision Transformer, of a name such as 'B/16' or with all its sizes given."""
  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False, attention_weights: bool = False,
      corruption: jax.Array | None = None
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates).

    Args:
      images: (B, H, W, 3) float in [-1, 1]; the patch size divides H and W, or the
        size of the ResNet's last feature map.
      train: apply dropout and stochastic depth; if any rate is positive, this needs
        `rngs={'dropout': key}`.
      attention_weights: add (B, N, L, L) 'attention_00', ... to the intermediates.
      corruption: (B, h*w) ints: which patch of the image each patch embedding is
        taken from, -1 for the mask embedding. None: each is its own.

    Intermediates: 'patch_embedding' (B, h, w, D); 'block_00', ... (B, L, D), the
    output of each block; 'encoder_norm' (B, L, D), what is pooled, so not normalised
    with `pool_norm`; 'pre_logits', the input of the head; 'logits'. Without a head,
    the logits are the pre_logits. With pool 'map' the requested attention weights
    include 'attention_pool' (B, N, 1, h*w). A ResNet adds 'root' and 'block1', ...
    """
    options = self.options
    patches.check_images(images)
    images = patches.normalise(options, images)
    maps = {}
    if options.resnet_width:
      maps = resnet.features(options, 1, images)
      images = list(maps.values())[-1]
    grid = patches.embed(options, images, 'embedding')  # (B, h, w, D)

    grid = self._corrupted(grid, corruption)

    key = None
    if train and (
        options.dropout or options.attention_dropout or options.stochastic_depth):
      key = self.make_rng('dropout')
    tokens, intermediates = Encoder(options, name='Transformer')(
        grid, self._prefix(), self.position_entries, key, attention_weights)

    x, weights = self._pool(tokens)
    if options.representation_size:
      x = jnp.tanh(nn.Dense(
          options.representation_size, dtype=options.dtype,
          param_dtype=options.param_dtype, name='pre_logits')(x))
    logits = heads.classify(options, self.num_classes, x)
    if weights is not None and attention_weights:
      intermediates['attention_pool'] = weights
    return logits, maps | intermediates | {
        'patch_embedding': grid, 'encoder_norm': tokens, 'pre_logits': x,
        'logits': logits}

  @property
  def has_class_token(self) -> bool:
    choice = self.options.class_token
    return choice == 'yes' or (choice == 'auto' and self.options.pool == 'token')

  @property
  def prefix_length(self) -> int:
    """Number of tokens before the patches."""
    return int(self.has_class_token) + self.options.registers

  @property
  def position_entries(self) -> int:
    """How many of the tokens before the patches have a position."""
    return {'none': 0, 'class': int(self.has_class_token),
            'all': self.prefix_length}[self.options.position_prefix]

  @property
  def strides(self) -> tuple[int, int]:
    height, width = self.options.patch_size
    stride = resnet.stride(self.options)
    return height * stride, width * stride

  def flops(self, image_size: tuple[int, int]) -> int:
    options = self.options
    total, grid, channels = 0, image_size, 3
    if options.resnet_width:
      total, grid, channels = resnet.flops(options, image_size)
    D, F = options.width, options.mlp_dim
    embedding, count = patches.flops(options, grid, channels)
    L = count + self.prefix_length
    total += embedding + options.depth * (
        blocks.attention_flops(L, L, D) + blocks.mlp_flops(L, D, F))
    if options.pool == 'map':
      total += blocks.attention_flops(1, count, D) + blocks.mlp_flops(1, D, F)
    vectors = L if options.pool == 'none' else 1
    R = options.representation_size
    return total + 2 * vectors * (D * R + (R or D) * self.num_classes)

  def _corrupted(self, grid: jax.Array, sources: jax.Array | None) -> jax.Array:
    """The patch embeddings (B, h, w, D) from these sources, see `__call__`."""
    options = self.options
    if not options.mask_embedding:
      if sources is not None:
        raise ValueError('corruption was given to a model without mask_embedding; '
                         'create it with mask_embedding=True.')
      return grid
    mask = self.param(
        'mask_embedding', nn.initializers.normal(0.02), (1, 1, options.width),
        options.param_dtype)
    if sources is None:
      return grid
    tokens = grid.reshape(len(grid), -1, options.width)  # (B, h*w, D)
    moved = jnp.take_along_axis(tokens, jnp.maximum(sources, 0)[..., None], axis=1)
    tokens = jnp.where(sources[..., None] < 0, mask.astype(tokens.dtype), moved)
    return tokens.reshape(grid.shape)

  def _prefix(self) -> list[jax.Array]:
    """The learned tokens that come before the patches, each (1, n, D)."""
    options, tokens = self.options, []
    if self.has_class_token:
      tokens.append(self.param(
          'cls', nn.initializers.zeros, (1, 1, options.width), options.param_dtype))
    if options.registers:
      tokens.append(self.param(
          'register_tokens', nn.initializers.normal(0.02),
          (1, options.registers, options.width), options.param_dtype))
    return tokens

  def _pool(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """(B, L, D) -> (B, D), or all tokens; and the weights of attention pooling."""
    options, weights = self.options, None
    patch_tokens = tokens[:, self.prefix_length:]
    if options.pool == 'token':
      x = tokens[:, 0]
    elif options.pool == 'gap':
      x = jnp.mean(patch_tokens, axis=1)
    elif options.pool == 'map':
      # Plain attention, whatever the options of the blocks.
      plain = dataclasses.replace(options, qk_norm=False, qkv_bias=True)
      x, weights = heads.AttentionPooling(plain, name='MAPHead_0')(patch_tokens)
    else:
      x = tokens
    if options.pool_norm:
      x = blocks.layer_norm(options, 'pool_norm')(x)
    return x, weights


def _tile(token: jax.Array, tokens: jax.Array) -> jax.Array:
  """Repeats (1, n, D) for every example, in the dtype of `tokens`: (B, n, D)."""
  return jnp.broadcast_to(
      token.astype(tokens.dtype), (tokens.shape[0], *token.shape[1:]))
