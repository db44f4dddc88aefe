"""Frozen features: a layer's output for every example of a split.

Dims: N examples, D features, and B, h, w, L as in `vit_jax.models.vit`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax.config.sections import PreprocessSection
from vit_jax.data import Input
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.preprocessing.device import augment
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training.job import Job
from vit_jax.training.programs import Setup

# Added to the standard deviation of a feature before it divides.
_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class Features:
  """What a model makes of a split, in file order; equal on every process."""
  x: np.ndarray  # (N, D) float32
  labels: np.ndarray  # (N,) int32
  skipped: int  # unreadable records, which are left out


@dataclasses.dataclass(frozen=True)
class FeatureStep:
  """`(params, batch) -> {'x' (B, D) float32, 'label', 'mask'}`, a compiled program.

  Attributes:
    setup, remaining, stored_shape, label_shape, batch_size: see `programs.EvalStep`.
    layer: a name among the model's intermediates.
  """
  setup: Setup
  remaining: PreprocessSection
  stored_shape: tuple[int, ...]
  label_shape: tuple[int, ...]
  batch_size: int
  layer: str

  def lower(self) -> jax.stages.Lowered:
    setup = self.setup
    # Replicated, so that each host has the features of all examples.
    jitted = jax.jit(self._step, out_shardings=mesh_lib.replicated(setup.mesh))
    return jitted.lower(
        setup.abstract_state.eval_params, setup.abstract_batch(
            self.batch_size, self.stored_shape, self.label_shape, mask=True))

  def build(self) -> Callable[..., dict[str, jax.Array]]:
    return self.setup.compile(self.lower())

  def _step(self, params: Any,
            batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    data = self.setup.config.data
    images = augment.eval_images(
        batch['image'], self.remaining, data.image_size, data.value_range)
    out: Any = self.setup.model.apply({'params': params}, images, train=False)
    x = out[1][self.layer].astype(jnp.float32)
    # (B, L, D) or (B, h, w, D) -> (B, D)
    x = x.mean(axis=tuple(range(1, x.ndim - 1)))
    return {'x': x, 'label': batch['label'], 'mask': batch['mask']}


class FrozenFeatures:
  """`of(params)` is the `Features` of one split; kept until `forget`."""

  def __init__(self, job: Job, split: SplitPass, layer: str, programs: ProgramCache,
               key: str) -> None:
    """Compiles nothing yet.

    Args:
      job: of the run.
      split: what the features are of.
      layer: a name among the model's intermediates.
      programs: where compiled ones are kept.
      key: of the evaluator's settings, such as 'evaluators[0]', for messages.

    Raises:
      UserError: if the model has no such layer.
    """
    self._job, self._layer, self._programs = job, layer, programs
    self._split = split
    # The last parameters, and their features.
    self._last: tuple[Any, Features] | None = None
    _check_layer(job, layer, key)

  @property
  def input(self) -> Input:
    return self._split.input

  @property
  def mesh(self) -> Mesh:
    """What further computations may be divided over."""
    return self._job.mesh

  def of(self, params: Any) -> Features:
    """One forward pass over the split, unless it was the last that was asked for."""
    if self._last is None or self._last[0] is not params:
      self._last = params, self._extract(params)
    return self._last[1]

  def forget(self) -> None:
    """Frees the memory of the last features."""
    self._last = None

  def _extract(self, params: Any) -> Features:
    parts = []
    for out in self._split.outputs(self._step, params):
      # Padding and unreadable records go; file order stays.
      parts.append((out['x'][out['mask']], out['label'][out['mask']]))
    x, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(x, labels, self._split.skipped(len(x)))

  @functools.cached_property
  def _step(self) -> Callable[..., dict[str, jax.Array]]:
    data_input = self._split.input
    return self._programs.get(FeatureStep(
        self._job.setup, data_input.remaining, data_input.stored_shape,
        data_input.label_shape, self._split.batch_size, self._layer))


def standardiser(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
  """A function to features of mean 0 and deviation 1 on `x` (N, D), in float64."""
  mean = x.mean(axis=0, dtype=np.float64)
  scale = x.std(axis=0, dtype=np.float64) + _EPS
  return lambda x: (x.astype(np.float64) - mean) / scale


def _check_layer(job: Job, layer: str, key: str) -> None:
  images = jax.ShapeDtypeStruct((1, *job.config.data.image_size, 3), jnp.float32)
  _, found = jax.eval_shape(
      lambda params, x: job.model.apply({'params': params}, x, train=False),
      job.abstract_state.eval_params, images)
  if layer not in found:
    raise UserError(
        f'config.{key}.layer is {layer!r}; the intermediates of this model are '
        f'{", ".join(found)}.')
