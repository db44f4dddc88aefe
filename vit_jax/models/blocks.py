"""The pre-norm Transformer block and its parts.

Randomness is explicit: a block is handed one key (or None when nothing is to be
dropped) instead of using Flax's `make_rng`. So a model drops the same units
whether its blocks are unrolled or scanned, and remat needs no care at all.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.parallel import activations

# 'tanh' and 'quick' (as in CLIP) approximate 'exact', https://arxiv.org/abs/1606.08415.
GELUS = {
    'exact': functools.partial(jax.nn.gelu, approximate=False),
    'tanh': functools.partial(jax.nn.gelu, approximate=True),
    'quick': lambda x: x * jax.nn.sigmoid(1.702 * x),
}


@dataclasses.dataclass(frozen=True)
class BlockConfig:
  """What every block of a model has in common."""
  num_heads: int
  mlp_dim: int
  dropout: float = 0.0
  attention_dropout: float = 0.0
  layer_norm_eps: float = 1e-6
  gelu: str = 'tanh'
  qkv_bias: bool = True
  qk_norm: bool = False
  layer_scale: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  projection: str = 'auto'
  softmax_dtype: str = 'float32'

  @property
  def flat_rows(self) -> bool:
    """Whether products take tokens as (B*L, D) rather than (B, L, D).

    It spares a CPU transposed copies of the activations in the backward pass. A TPU
    has to move all tokens for it unless L is a multiple of 8; for TPUs
    `variants.from_section` has chosen '3d' already.
    """
    return self.projection != '3d'

  def projects_in_2d(self, head_size: int) -> bool:
    """Whether q, k, v are products of matrices rather than with (D, N, K) tensors."""
    return self.flat_rows and (self.projection == '2d' or head_size % 64 == 0)

  def layer_norm(self, name: str) -> nn.LayerNorm:
    # Statistics are float32 whatever the dtype (Flax's default), and the variance
    # is E[x^2] - E[x]^2: published weights were trained with that form.
    return nn.LayerNorm(
        epsilon=self.layer_norm_eps, dtype=self.dtype,
        param_dtype=self.param_dtype, name=name)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zeroes elements with probability `rate`; no key: nothing is dropped."""
  if key is None or not rate:
    return x
  return _keep(x, jax.random.bernoulli(key, 1 - rate, x.shape), 1 - rate)


def stochastic_depth(
    branch: jax.Array, rate: jax.Array | None, key: jax.Array | None
) -> jax.Array:
  """Zeroes the whole branch of an example with probability `rate`.

  Huang et al., 2016, https://arxiv.org/abs/1603.09382, scaled while training so
  that evaluation needs no factor. `rate` may be traced: a scan has one per layer.
  """
  if key is None or rate is None:
    return branch
  kept = jax.random.bernoulli(key, 1 - rate, (branch.shape[0], 1, 1))
  return _keep(branch, kept, 1 - rate)


def _keep(x, kept, probability):
  # In float32, as 1 / probability rounded to bfloat16 would shift the mean.
  return jnp.where(kept, x.astype(jnp.float32) / probability, 0).astype(x.dtype)


def _xavier_matrix(rows: int):
  """Xavier init of a tensor whose fan is that of its matrix with `rows` rows."""
  def init(key, shape, dtype):
    columns = np.prod(shape) // rows
    matrix = nn.initializers.xavier_uniform()(key, (rows, columns), dtype)
    return matrix.reshape(shape)
  return init


class HeadsIn(nn.Module):
  """Width to heads: (B, L, D) -> (B, L, N, K)."""
  config: BlockConfig

  @nn.compact
  def __call__(self, x):
    config = self.config
    B, L, D = x.shape
    N, K = config.num_heads, D // config.num_heads
    kernel = self.param('kernel', _xavier_matrix(D), (D, N, K), config.param_dtype)
    kernel = kernel.astype(config.dtype)
    if config.projects_in_2d(K):
      # (B*L, D) x (D, N*K)
      y = jnp.einsum('TD,DP->TP', x.reshape(B * L, D), kernel.reshape(D, N * K))
      y = y.reshape(B, L, N, K)  # (B, L, N, K)
    else:
      y = jnp.einsum('BLD,DNK->BLNK', x, kernel)
    if not config.qkv_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (N, K), config.param_dtype)
    return y + bias.astype(config.dtype)


class HeadsOut(nn.Module):
  """Heads to width: (B, L, N, K) -> (B, L, D)."""
  config: BlockConfig

  @nn.compact
  def __call__(self, x):
    config = self.config
    B, L, N, K = x.shape
    D = N * K
    kernel = self.param('kernel', _xavier_matrix(D), (N, K, D), config.param_dtype)
    bias = self.param('bias', nn.initializers.zeros, (D,), config.param_dtype)
    kernel, bias = kernel.astype(config.dtype), bias.astype(config.dtype)
    if config.projects_in_2d(K):
      # (B*L, N*K) x (N*K, D)
      y = jnp.einsum('TP,PD->TD', x.reshape(B * L, D), kernel.reshape(D, D))
      y = y.reshape(B, L, D)  # (B, L, D)
    else:
      y = jnp.einsum('BLNK,NKD->BLD', x, kernel)
    return y + bias


class Attention(nn.Module):
  """Multi-head attention; returns (output, weights before dropout)."""
  config: BlockConfig

  @nn.compact
  def __call__(self, queries_from, tokens, key=None):
    config = self.config
    query = HeadsIn(config, name='query')(queries_from)  # (B, Q, N, K)
    keys = HeadsIn(config, name='key')(tokens)           # (B, L, N, K)
    values = HeadsIn(config, name='value')(tokens)       # (B, L, N, K)
    if config.qk_norm:
      # Over the head size, https://arxiv.org/abs/2302.05442.
      query = config.layer_norm('query_norm')(query)
      keys = config.layer_norm('key_norm')(keys)
    query = query / np.sqrt(query.shape[-1]).astype(query.dtype)
    scores = jnp.einsum('BQNK,BLNK->BNQL', query, keys)
    if config.softmax_dtype == 'float32':
      scores = scores.astype(jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1)  # (B, N, Q, L)
    dropped = dropout(weights.astype(config.dtype), config.attention_dropout, key)
    x = jnp.einsum('BNQL,BLNK->BQNK', dropped, values)
    return HeadsOut(config, name='out')(x), weights


class Mlp(nn.Module):
  """Two dense layers with a GELU between them, token by token."""
  config: BlockConfig
  kernel_init: Callable = nn.initializers.xavier_uniform()
  bias_init: Callable = nn.initializers.normal(1e-6)

  @nn.compact
  def __call__(self, x, keys=(None, None)):
    config = self.config
    dense = functools.partial(
        nn.Dense, dtype=config.dtype, param_dtype=config.param_dtype,
        kernel_init=self.kernel_init, bias_init=self.bias_init)
    B, L, D = x.shape
    if config.flat_rows:
      x = x.reshape(B * L, D)
    x = dense(config.mlp_dim, name='Dense_0')(x)  # (B, L, F) or (B*L, F)
    x = GELUS[config.gelu](x)
    x = dropout(x, config.dropout, keys[0])
    x = dense(D, name='Dense_1')(x)
    return dropout(x, config.dropout, keys[1]).reshape(B, L, D)  # (B, L, D)


class Block(nn.Module):
  """x + attention(norm(x)), then x + MLP(norm(x)).

  Returns (tokens, {'tokens', 'weights'}): the carry and the per-layer outputs of a
  scan. The weights are None unless `keep_weights`.
  """
  config: BlockConfig
  keep_weights: bool = False

  @nn.compact
  def __call__(self, x, key=None, drop_rate=None):
    config = self.config
    keys = [None] * 6 if key is None else jax.random.split(key, 6)
    x = activations.by_example(x)

    y = config.layer_norm('LayerNorm_0')(x)
    y, weights = Attention(config, name='MultiHeadDotProductAttention_0')(
        y, y, keys[0])
    y = self._scale('layer_scale_0', dropout(y, config.dropout, keys[1]))
    x = x + stochastic_depth(y, drop_rate, keys[2])

    y = config.layer_norm('LayerNorm_1')(x)
    y = self._scale('layer_scale_1', Mlp(config, name='MlpBlock_0')(y, keys[3:5]))
    x = x + stochastic_depth(y, drop_rate, keys[5])
    return x, {'tokens': x, 'weights': weights if self.keep_weights else None}

  def _scale(self, name, branch):
    """LayerScale, https://arxiv.org/abs/2103.17239: a learned factor per channel."""
    config = self.config
    if not config.layer_scale:
      return branch
    scale = self.param(
        name, nn.initializers.constant(config.layer_scale), branch.shape[-1:],
        config.param_dtype)
    return branch * scale.astype(branch.dtype)
