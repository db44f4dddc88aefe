"""From encoded tokens to the vector that is classified, and to logits."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.config.sections import ModelSection
from vit_jax.models import blocks


class AttentionPooling(nn.Module):
  """A learned probe attends to the tokens, then one residual MLP: (B, L, D) -> (B, D).

  The "MAP" head of https://arxiv.org/abs/2106.04560, after Set Transformers. Returns
  (vector, weights); never drops anything.
  """
  options: ModelSection

  @nn.compact
  def __call__(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    options = self.options
    B, _, D = tokens.shape
    probe = self.param(
        'probe', nn.initializers.xavier_uniform(), (1, 1, D), options.param_dtype)
    probe = jnp.broadcast_to(probe.astype(tokens.dtype), (B, 1, D))
    x, weights = blocks.Attention(options, name='MultiHeadDotProductAttention_0')(
        probe, tokens)
    y = blocks.layer_norm(options, 'LayerNorm_0')(x)
    x = x + blocks.Mlp(options, name='MlpBlock_0')(y)
    return x[:, 0], weights


def classify(options: ModelSection, num_classes: int, x: jax.Array) -> jax.Array:
  """Float32 logits, from the layer 'head' of the model whose `__call__` asks.

  Without classes the logits are `x` itself.
  """
  logits = x.astype(jnp.float32)
  if not num_classes:
    return logits
  return nn.Dense(
      num_classes, dtype=jnp.float32, param_dtype=options.param_dtype,
      kernel_init=nn.initializers.zeros,
      bias_init=nn.initializers.constant(options.head_bias_init), name='head')(logits)
