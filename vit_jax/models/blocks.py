"""The pre-norm Transformer block and its parts.

Randomness is explicit: a block is handed one key (or None when nothing is to be
dropped) instead of using Flax's `make_rng`. So a model drops the same units
whether its blocks are unrolled or scanned, and remat needs no care at all.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from vit_jax.config.sections import ModelSection
from vit_jax.parallel import activations

# One per place where something may be dropped; None: nothing is.
Keys = Sequence[jax.Array | None] | jax.Array
# 'tanh' and 'quick' (as in CLIP) approximate 'exact', https://arxiv.org/abs/1606.08415.
GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'exact': functools.partial(jax.nn.gelu, approximate=False),
    'tanh': functools.partial(jax.nn.gelu, approximate=True),
    'quick': lambda x: x * jax.nn.sigmoid(1.702 * x),
}


def layer_norm(options: ModelSection, name: str) -> nn.LayerNorm:
  # Statistics are float32 whatever the dtype (Flax's default), and the variance
  # is E[x^2] - E[x]^2: published weights were trained with that form.
  return nn.LayerNorm(
      epsilon=options.layer_norm_eps, dtype=options.dtype,
      param_dtype=options.param_dtype, name=name)


def _flat_rows(options: ModelSection) -> bool:
  """Whether products take tokens as (B*L, D) rather than (B, L, D).

  It spares a CPU transposed copies of the activations in the backward pass. A TPU
  has to move all tokens for it unless L is a multiple of 8; for TPUs
  `variants.from_section` has chosen '3d' already.
  """
  return options.projection != '3d'


def _projects_in_2d(options: ModelSection, head_size: int) -> bool:
  """Whether q, k, v are products of matrices rather than with (D, N, K) tensors."""
  return _flat_rows(options) and (options.projection == '2d' or head_size % 64 == 0)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zeroes elements with probability `rate`; no key: nothing is dropped."""
  if key is None or not rate:
    return x
  return _keep(x, jax.random.bernoulli(key, 1 - rate, x.shape), 1 - rate)


def stochastic_depth(
    branch: jax.Array, rate: jax.Array | np.ndarray | None, key: jax.Array | None
) -> jax.Array:
  """Zeroes the whole branch of an example with probability `rate`.

  Huang et al., 2016, https://arxiv.org/abs/1603.09382, scaled while training so
  that evaluation needs no factor. `rate` may be traced: a scan has one per layer.
  """
  if key is None or rate is None:
    return branch
  kept = jax.random.bernoulli(key, 1 - rate, (branch.shape[0], 1, 1))
  return _keep(branch, kept, 1 - rate)


def _keep(
    x: jax.Array, kept: jax.Array,
    probability: float | jax.Array | np.ndarray) -> jax.Array:
  # In float32, as 1 / probability rounded to bfloat16 would shift the mean.
  return jnp.where(kept, x.astype(jnp.float32) / probability, 0).astype(x.dtype)


def _xavier_matrix(rows: int) -> Callable[..., jax.Array]:
  """Xavier init of a tensor whose fan is that of its matrix with `rows` rows."""
  def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    columns = np.prod(shape) // rows
    matrix = nn.initializers.xavier_uniform()(key, (rows, columns), dtype)
    return matrix.reshape(shape)
  return init


class HeadsIn(nn.Module):
  """Width to heads: (B, L, D) -> (B, L, N, K)."""
  options: ModelSection

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    options = self.options
    B, L, D = x.shape
    N, K = options.num_heads, D // options.num_heads
    kernel = self.param('kernel', _xavier_matrix(D), (D, N, K), options.param_dtype)
    kernel = kernel.astype(options.dtype)
    if _projects_in_2d(options, K):
      # (B*L, D) x (D, N*K)
      y = jnp.einsum('TD,DP->TP', x.reshape(B * L, D), kernel.reshape(D, N * K))
      y = y.reshape(B, L, N, K)  # (B, L, N, K)
    else:
      y = jnp.einsum('BLD,DNK->BLNK', x, kernel)
    if not options.qkv_bias:
      return y
    bias = self.param('bias', nn.initializers.zeros, (N, K), options.param_dtype)
    return y + bias.astype(options.dtype)


class HeadsOut(nn.Module):
  """Heads to width: (B, L, N, K) -> (B, L, D)."""
  options: ModelSection

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    options = self.options
    B, L, N, K = x.shape
    D = N * K
    kernel = self.param('kernel', _xavier_matrix(D), (N, K, D), options.param_dtype)
    bias = self.param('bias', nn.initializers.zeros, (D,), options.param_dtype)
    kernel, bias = kernel.astype(options.dtype), bias.astype(options.dtype)
    if _projects_in_2d(options, K):
      # (B*L, N*K) x (N*K, D)
      y = jnp.einsum('TP,PD->TD', x.reshape(B * L, D), kernel.reshape(D, D))
      y = y.reshape(B, L, D)  # (B, L, D)
    else:
      y = jnp.einsum('BLNK,NKD->BLD', x, kernel)
    return y + bias


class Attention(nn.Module):
  """Multi-head attention; returns (output, weights before dropout)."""
  options: ModelSection

  @nn.compact
  def __call__(
      self, queries_from: jax.Array, tokens: jax.Array, key: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    options = self.options
    query = HeadsIn(options, name='query')(queries_from)  # (B, Q, N, K)
    keys = HeadsIn(options, name='key')(tokens)           # (B, L, N, K)
    values = HeadsIn(options, name='value')(tokens)       # (B, L, N, K)
    if options.qk_norm:
      # Over the head size, https://arxiv.org/abs/2302.05442.
      query = layer_norm(options, 'query_norm')(query)
      keys = layer_norm(options, 'key_norm')(keys)
    query = query / np.sqrt(query.shape[-1]).astype(query.dtype)
    scores = jnp.einsum('BQNK,BLNK->BNQL', query, keys)
    if options.softmax_dtype == 'float32':
      scores = scores.astype(jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1)  # (B, N, Q, L)
    dropped = dropout(weights.astype(options.dtype), options.attention_dropout, key)
    x = jnp.einsum('BNQL,BLNK->BQNK', dropped, values)
    return HeadsOut(options, name='out')(x), weights


class Mlp(nn.Module):
  """Two dense layers with a GELU between them, token by token."""
  options: ModelSection
  kernel_init: Callable[..., jax.Array] = nn.initializers.xavier_uniform()
  bias_init: Callable[..., jax.Array] = nn.initializers.normal(1e-6)

  @nn.compact
  def __call__(
      self, x: jax.Array, keys: Keys = (None, None)
  ) -> jax.Array:
    options = self.options
    dense = functools.partial(
        nn.Dense, dtype=options.dtype, param_dtype=options.param_dtype,
        kernel_init=self.kernel_init, bias_init=self.bias_init)
    B, L, D = x.shape
    if _flat_rows(options):
      x = x.reshape(B * L, D)
    x = dense(options.mlp_dim, name='Dense_0')(x)  # (B, L, F) or (B*L, F)
    x = GELUS[options.gelu](x)
    x = dropout(x, options.dropout, keys[0])
    x = dense(D, name='Dense_1')(x)
    return dropout(x, options.dropout, keys[1]).reshape(B, L, D)  # (B, L, D)


class Block(nn.Module):
  """x + attention(norm(x)), then x + MLP(norm(x)).

  Returns (tokens, {'tokens', 'weights'}): the carry and the per-layer outputs of a
  scan. The weights are None unless `keep_weights`.
  """
  options: ModelSection
  keep_weights: bool = False

  @nn.compact
  def __call__(
      self, x: jax.Array, key: jax.Array | None = None,
      drop_rate: jax.Array | np.ndarray | None = None
  ) -> tuple[jax.Array, dict[str, jax.Array | None]]:
    options = self.options
    keys: Keys = [None] * 6 if key is None else jax.random.split(key, 6)
    x = activations.by_example(x)

    y = layer_norm(options, 'LayerNorm_0')(x)
    y, weights = Attention(options, name='MultiHeadDotProductAttention_0')(
        y, y, keys[0])
    y = self._scale('layer_scale_0', dropout(y, options.dropout, keys[1]))
    x = x + stochastic_depth(y, drop_rate, keys[2])

    y = layer_norm(options, 'LayerNorm_1')(x)
    y = self._scale('layer_scale_1', Mlp(options, name='MlpBlock_0')(y, keys[3:5]))
    x = x + stochastic_depth(y, drop_rate, keys[5])
    return x, {'tokens': x, 'weights': weights if self.keep_weights else None}

  def _scale(self, name: str, branch: jax.Array) -> jax.Array:
    """LayerScale, https://arxiv.org/abs/2103.17239: a learned factor per channel."""
    options = self.options
    if not options.layer_scale:
      return branch
    scale = self.param(
        name, nn.initializers.constant(options.layer_scale), branch.shape[-1:],
        options.param_dtype)
    return branch * scale.astype(branch.dtype)


def attention_flops(queries: int, L: int, D: int) -> int:
  """FLOPs of an `Attention` from so many tokens to L, see `Model.flops`."""
  projections = 2 * D * D * (2 * queries + 2 * L)  # q and out, k and v
  return projections + 2 * 2 * queries * L * D  # scores, weighted values


def mlp_flops(L: int, D: int, F: int) -> int:
  """FLOPs of an `Mlp` of L tokens."""
  return 2 * 2 * L * D * F
