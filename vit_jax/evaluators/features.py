"""Frozen features: a layer's output for every example of a split.

Dims: N examples, D features, and B, h, w, L as in `vit_jax.models.vit`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.preprocessing.device import augment
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.reuse import Reuse
from vit_jax.training import job as job_lib

# Added to the standard deviation of a feature before it divides.
_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class Features:
  """What a model makes of a split, in file order; equal on every process."""
  x: np.ndarray  # (N, D) float32
  labels: np.ndarray  # (N,) int32
  skipped: int  # unreadable records, which are left out


class FrozenFeatures:
  """`of(params)` is the `Features` of one split; kept until `forget`."""

  def __init__(self, job, data_input, layer: str, batch_size: int, key: str,
               reuse: Reuse | None = None):
    """Compiles nothing yet.

    Args:
      job: see `vit_jax.training.job`; its `config.data` is that of the split.
      data_input: see `vit_jax.data.open_input`, opened for evaluation.
      layer: a name among the model's intermediates.
      batch_size: see `SplitPass`.
      key: of the evaluator's settings, such as 'evaluators[0]', for messages.
      reuse: what earlier evaluations of the same process left.
    """
    self._job, self._layer, self._reuse = job, layer, reuse or Reuse()
    self._pass = SplitPass(job, data_input, batch_size, f'{key}.batch_size')
    self._params = self._found = None
    _check_layer(job, layer, key)

  @property
  def input(self):
    return self._pass.input

  def of(self, params) -> Features:
    """One forward pass over the split, unless it was the last that was asked for."""
    if self._params is not params:
      self._params, self._found = params, self._extract(params)
    return self._found

  def forget(self):
    """Frees the memory of the last features."""
    self._params = self._found = None

  def _extract(self, params):
    parts = []
    for out in self._pass.outputs(self._compiled(), params):
      # Padding and unreadable records go; file order stays.
      parts.append((out['x'][out['mask']], out['label'][out['mask']]))
    x, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(x, labels, self._pass.skipped(len(x)))

  def _compiled(self):
    job, data_input = self._job, self._pass.input
    size, layer = self._pass.batch_size, self._layer
    def make():
      step = make_step(job.model, job.config.data, data_input.remaining, layer)
      # Replicated, so that each host has the features of all examples.
      jitted = jax.jit(step, out_shardings=mesh_lib.replicated(job.mesh))
      batch = job_lib.abstract_batch(job, size, data_input.stored_shape, mask=True)
      lowered = jitted.lower(job.abstract_state.eval_params, batch)
      return job_lib.compile_lowered(job, lowered)
    key = ('features', job_lib.program_config(job.config), job.mesh, job.num_classes,
           data_input.remaining, data_input.stored_shape, size, layer)
    return self._reuse.program(key, make)


def make_step(model, data, remaining, layer: str):
  """`(params, batch) -> {'x' (B, D) float32, 'label', 'mask'}`."""
  def step(params, batch):
    images = augment.eval_images(
        batch['image'], remaining, data.image_size, data.value_range)
    _, intermediates = model.apply({'params': params}, images, train=False)
    x = intermediates[layer].astype(jnp.float32)
    # (B, L, D) or (B, h, w, D) -> (B, D)
    x = x.mean(axis=tuple(range(1, x.ndim - 1)))
    return {'x': x, 'label': batch['label'], 'mask': batch['mask']}
  return step


def standardiser(x: np.ndarray):
  """A function to features of mean 0 and deviation 1 on `x` (N, D), in float64."""
  mean = x.mean(axis=0, dtype=np.float64)
  scale = x.std(axis=0, dtype=np.float64) + _EPS
  return lambda x: (x.astype(np.float64) - mean) / scale


def _check_layer(job, layer, key):
  images = jax.ShapeDtypeStruct((1, *job.config.data.image_size, 3), jnp.float32)
  _, found = jax.eval_shape(
      lambda params, x: job.model.apply({'params': params}, x, train=False),
      job.abstract_state.eval_params, images)
  if layer not in found:
    raise UserError(
        f'config.{key}.layer is {layer!r}; the intermediates of this model are '
        f'{", ".join(found)}.')
