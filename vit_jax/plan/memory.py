"""Memory and arithmetic of a step on a slice, from shapes alone: no device, no libtpu.

Parameters, optimizer state and batch are exact. Activations are what reverse-mode
differentiation keeps, which is an estimate: the compiler fuses and recomputes.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vit_jax.config.sections import Config
from vit_jax.models import vit
from vit_jax.models.model import Model
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel import rules
from vit_jax.parallel.tpu_slices import Slice
from vit_jax.training import job as job_lib


@dataclasses.dataclass(frozen=True)
class Device:
  """Stands for a device that is not here, as far as shardings ask."""
  id: int
  device_kind: str
  slice_index: int
  platform: str = 'tpu'
  process_index: int = 0

  def memory_stats(self) -> None:
    """Nobody knows."""


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one device."""
  params: int
  opt_state: int
  ema: int
  # Estimates; of the step while it runs.
  gradients: int
  activations: int
  batch: int

  @property
  def state(self) -> int:
    return self.params + self.opt_state + self.ema

  @property
  def total(self) -> int:
    return self.state + self.gradients + self.activations + self.batch


def abstract_mesh(config: Config, slice_: Slice, slices: int = 1) -> Mesh:
  """The mesh of a run on that many slices, of devices that are only named."""
  count = slice_.devices * slices
  kind = slice_.generation.device_kinds[0]
  devices = [Device(i, kind, i // slice_.devices) for i in range(count)]
  shape = mesh_lib.shape(config.mesh, count)
  return Mesh(np.array(devices, object).reshape(shape), mesh_lib.AXES)


def estimate(job: job_lib.Job, stored_shape: tuple[int, int, int]) -> Memory:
  """Memory of the train step of a job on an abstract mesh.

  Args:
    job: the job.
    stored_shape: (h, w, 3) of the uint8 images that arrive.
  """
  config, state = job.config, job.abstract_state
  images = config.batch_size // job.mesh.size
  at_once = max(1, images // config.accum_steps)
  params = rules.bytes_held(state.params)
  activations = activation_bytes(
      job.model,  # pyright: ignore[reportArgumentType]: Flax gives modules a hash
      config.data.image_size)
  # Images arrive as bytes and are float32 while they are augmented.
  pixels = math.prod(stored_shape) + 4 * 3 * math.prod(config.data.image_size)
  return Memory(
      params, rules.bytes_held(state.opt_state),
      0 if state.ema is None else rules.bytes_held(state.ema), params,
      at_once * activations, images * pixels)


@functools.lru_cache
def activation_bytes(model: Model, image_size: tuple[int, int]) -> int:
  """Bytes per image that the forward pass leaves for the backward pass.

  For unrolled blocks without rematerialisation those of the policy 'dots': whatever
  else is kept can be recomputed inside the compiler's fusions.
  """
  if not isinstance(model, vit.ViT):
    return _kept(model, image_size)
  options = model.options
  if not options.scan and options.remat == 'none':
    model = model.with_options(remat='dots')
  # The blocks are alike: the difference of two depths is one of them.
  one, two = (_kept(model.with_options(depth=depth), image_size) for depth in (1, 2))
  kept = one + (options.depth - 1) * (two - one)
  if options.remat == 'full':
    # One block at a time is recomputed, and then is there as a whole.
    whole = model.with_options(remat='dots', scan=False)
    kept += (_kept(whole.with_options(depth=2), image_size)
             - _kept(whole.with_options(depth=1), image_size))
  return kept


def _kept(model: Model, image_size: tuple[int, int]) -> int:
  """Bytes of the residuals that grow with the batch, per image."""
  def residuals(params: Any, images: jax.Array) -> Any:
    def loss(params: Any) -> jax.Array:
      logits, _ = model.apply(
          {'params': params}, images, train=True,
          rngs={'dropout': jax.random.key(0)})
      return logits.astype(jnp.float32).sum()
    return jax.vjp(loss, params)[1]

  def image(batch: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.float32)
  params = jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x)['params'], image(1))
  one, two = (rules.total_bytes(jax.eval_shape(residuals, params, image(batch)))
              for batch in (1, 2))
  return two - one


def usable(slice_: Slice) -> int:
  """Bytes of a device's memory that a program can have."""
  return slice_.generation.usable_bytes_per_device


def step_flops(job: job_lib.Job) -> int:
  """FLOPs of the model's matrix products in one step, on all devices.

  A backward pass costs twice the forward pass; recomputation is not counted.
  """
  per_image = job.model.flops(job.config.data.image_size)
  return 3 * per_image * job.config.batch_size
