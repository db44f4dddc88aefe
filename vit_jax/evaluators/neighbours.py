"""kNN: every test image is classified by the training images most like it.

Section 3.4 of https://arxiv.org/abs/1805.01978: the k training images of the highest
cosine similarity s to the test image vote for their class, each with exp(s / T).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.evaluators.features import FrozenFeatures
from vit_jax.objectives.objective import Direction
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError

# Test and training images whose similarities are in memory at a time: at most
# 4 * 4096 * 16384 bytes = 256 MiB over all devices.
_QUERIES, _BLOCK = 4096, 16384


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """`run(params)` gives 'accuracy'. See `evaluator.FeatureEvaluator`."""
  section: EvaluatorSection
  train: FrozenFeatures
  test: FrozenFeatures
  key: str = ''

  on_features: ClassVar[bool] = True

  def __post_init__(self) -> None:
    train = self.train.input
    if self.section.k > train.num_examples:
      raise UserError(
          f'config.{self.key}.k is {self.section.k}, but {train.name}[{train.split}] '
          f'has {train.num_examples} examples; lower it.')

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    del config, section
    return {'accuracy': 'max'}

  def run(self, params: Any) -> dict[str, float]:
    train, test = self.train.of(params), self.test.of(params)
    predicted = predict(
        self.train.mesh, train.x, train.labels, test.x,
        len(self.train.input.class_names),
        # Fewer are left where records are unreadable.
        min(self.section.k, len(train.labels)), self.section.temperature)
    measured = {'accuracy': float(np.mean(predicted == test.labels))}
    skipped = train.skipped + test.skipped
    return measured | ({'skipped_records': skipped} if skipped else {})


def predict(mesh: Mesh, train_x: np.ndarray, train_labels: np.ndarray,
            test_x: np.ndarray, num_classes: int, k: int,
            temperature: float) -> np.ndarray:
  """Classes (M,) of the test features (M, D).

  Args:
    mesh: test images are divided over its devices.
    train_x: (N, D); the same on every process, as all arrays here.
    train_labels: (N,).
    test_x: (M, D).
    num_classes: K.
    k: number of neighbours, at most N.
    temperature: T.
  """
  merge, vote = _programs(mesh, k, num_classes)
  over_batch, everywhere = mesh_lib.over_batch(mesh), mesh_lib.replicated(mesh)
  size = min(_QUERIES, len(test_x))
  size = -(-size // mesh.size) * mesh.size
  queries = [_place(_padded(_normalised(test_x[i:i + size]), size), over_batch)
             for i in range(0, len(test_x), size)]
  # The nearest so far of every test image; similarities are never below -1.
  nearest = [(_place(np.full((size, k), -np.inf, np.float32), over_batch),
              _place(np.zeros((size, k), np.int32), over_batch)) for _ in queries]
  block = min(_BLOCK, len(train_x))
  for start in range(0, len(train_x), block):
    x = _normalised(train_x[start:start + block])
    present = _place(_padded(np.ones(len(x), bool), block), everywhere)
    labels = _place(_padded(train_labels[start:start + block], block), everywhere)
    x = _place(_padded(x, block), everywhere)
    nearest = [merge(*found, q, x, labels, present)
               for found, q in zip(nearest, queries, strict=True)]
  predicted = [vote(*found, np.float32(temperature)) for found in nearest]
  return np.concatenate(jax.device_get(predicted))[:len(test_x)]


@functools.lru_cache(maxsize=8)
def _programs(mesh: Mesh, k: int,
              num_classes: int) -> tuple[Callable[..., Any], Callable[..., jax.Array]]:
  """Jitted (merge, vote)."""
  over_batch = mesh_lib.over_batch(mesh)

  def merge(similarities: jax.Array, labels: jax.Array, queries: jax.Array,
            x: jax.Array, x_labels: jax.Array,
            present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The k nearest among those found, (Q, k), and a block x (N, D)."""
    # In full float32: an accelerator's default would be bfloat16.
    new = jnp.einsum('qd,nd->qn', queries, x, precision=jax.lax.Precision.HIGHEST)
    new = jnp.where(present, new, -jnp.inf)
    # Of equals the first comes first, so blocks of any size give the same.
    new, at = jax.lax.top_k(new, min(k, new.shape[1]))
    similarities = jnp.concatenate([similarities, new], axis=1)
    labels = jnp.concatenate([labels, x_labels[at]], axis=1)
    similarities, at = jax.lax.top_k(similarities, k)
    return similarities, jnp.take_along_axis(labels, at, axis=1)

  def vote(similarities: jax.Array, labels: jax.Array,
           temperature: jax.Array) -> jax.Array:
    # Relative to the nearest: the same winner, and no overflow for a small T.
    weights = jnp.exp((similarities - similarities[:, :1]) / temperature)
    rows = jnp.arange(len(labels))[:, None]
    votes = jnp.zeros((len(labels), num_classes)).at[rows, labels].add(weights)
    return votes.argmax(axis=1)

  return (jax.jit(merge, out_shardings=(over_batch, over_batch)),
          jax.jit(vote, out_shardings=mesh_lib.replicated(mesh)))


def _normalised(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _padded(x: np.ndarray, length: int) -> np.ndarray:
  return np.pad(x, [(0, length - len(x))] + [(0, 0)] * (x.ndim - 1))


def _place(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
  return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
