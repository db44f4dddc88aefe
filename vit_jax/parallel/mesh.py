"""The device mesh: axis `data` replicates parameters, axis `fsdp` shards them."""

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax.errors import UserError
from vit_jax.sections import MeshSection

AXES = ('data', 'fsdp')


def shape(section: MeshSection, num_devices: int) -> tuple[int, int]:
  """(data, fsdp) with -1 resolved; their product is the number of devices."""
  data, fsdp = section.data, section.fsdp
  given = f'config.mesh.data={data}, config.mesh.fsdp={fsdp}'
  if data == -1 and fsdp > 0 and num_devices % fsdp == 0:
    data = num_devices // fsdp
  elif fsdp == -1 and data > 0 and num_devices % data == 0:
    fsdp = num_devices // data
  if data < 1 or fsdp < 1 or data * fsdp != num_devices:
    raise UserError(
        f'{given} does not fit {num_devices} devices. The product of the two '
        'must be the number of devices; -1 for one of them takes the rest.')
  return data, fsdp


def create(section: MeshSection, devices=None) -> Mesh:
  devices = jax.devices() if devices is None else devices
  sizes = shape(section, len(devices))
  if devices[0].platform == 'cpu':
    # There is no topology to follow; keep a process's devices together.
    grid = np.asarray(devices).reshape(sizes)
  else:
    grid = mesh_utils.create_device_mesh(sizes, devices)
  return Mesh(grid, AXES)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """Examples (dim 0) divided over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def check_batch(mesh: Mesh, batch_size: int, accum_steps: int = 1, name='batch_size'):
  """Raises UserError unless the batch divides over devices and micro-batches."""
  parts = mesh.size * accum_steps
  if batch_size % parts:
    below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
    accum = f' x {accum_steps} accumulation steps' if accum_steps > 1 else ''
    near = f'{below} or {above}' if below else f'{above}'
    raise UserError(
        f'config.{name} {batch_size} does not divide over {mesh.size} '
        f'devices{accum}; the nearest that does is {near}.')
