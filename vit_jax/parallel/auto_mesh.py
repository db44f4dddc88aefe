"""Which mesh suits a model on a slice, where `config.mesh.fsdp` is 0.

The rule, from compiled programs of ViTs on TPU slices:
  - A state that is small beside the memory is replicated: plain data parallelism needs
    the least communication.
  - A larger one is divided over up to 16 neighbouring devices, a torus axis of a full
    v5e or v6e slice, and replicated over the rest. Dividing it further makes shards too
    thin for an efficient gather.
  - It is divided further only if it would still fill half of the memory.
A divisor must divide the devices of a slice, so that parameters are never gathered
between slices, and every dim of a parameter that is to be divided.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from vit_jax.config.sections import MeshSection
from vit_jax.parallel import hosts, rules, tpu_generations
from vit_jax.parallel import mesh as mesh_lib

# Share of the memory up to which the state and its gradients are replicated.
REPLICATED_SHARE = 1 / 8
# Share that the divided state and gradients may fill.
DIVIDED_SHARE = 1 / 2
TORUS_AXIS = 16


def fit(section: MeshSection, mesh: Mesh, state: Any) -> Mesh:
  """`mesh`, or one over the same devices that suits `state` better.

  Args:
    section: `config.mesh`; unless its `fsdp` is 0, `mesh` is what it asked for.
    mesh: as made by `mesh.create(section, devices)`.
    state: (abstract) `TrainState`.
  """
  if section.fsdp != 0:
    return mesh
  chosen = choose(section, mesh.devices.flatten().tolist(), state)
  if chosen.fsdp == mesh.shape['fsdp']:
    return mesh
  devices = sorted(mesh.devices.flat, key=lambda d: d.id)
  return mesh_lib.create(chosen, devices)


def choose(section: MeshSection, devices: Sequence[mesh_lib.Device],
           state: Any) -> MeshSection:
  """`section` with its `fsdp` of 0 replaced by a number that suits `state`.

  Process 0 decides for all, which must call this together: a process knows the memory
  of its own devices alone, and hosts may differ.
  """
  if section.fsdp != 0:
    return section
  if section.data > 0:
    # The user has said how many replicas there are to be.
    return MeshSection(section.data, -1)
  memory: int | None = hosts.broadcast(memory_bytes(_local(devices)))
  needed = rules.total_bytes(state) + rules.total_bytes(state.params)
  if memory is None or needed <= REPLICATED_SHARE * memory:
    return MeshSection(-1, 1)
  possible = divisors(len(devices) // mesh_lib.num_slices(devices), state.params)
  fsdp = max(n for n in possible if n <= TORUS_AXIS)
  for n in possible:
    if needed / fsdp > DIVIDED_SHARE * memory and n > fsdp:
      fsdp = n
  return MeshSection(-1, fsdp)


def divisors(num_devices: int, params: Any) -> list[int]:
  """Numbers that divide `num_devices` and every dim that axis `fsdp` divides."""
  common = num_devices
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    dims = rules.logical_dims(rules.path_name(path), len(x.shape))
    for dim, size in zip(dims, x.shape, strict=True):
      if rules.MESH_AXES[dim] == 'fsdp':
        common = math.gcd(common, size)
  return [n for n in range(1, common + 1) if common % n == 0]


def _local(devices: Sequence[mesh_lib.Device]) -> mesh_lib.Device:
  """One that this process may ask; any, where none is its own."""
  here = jax.process_index()
  return next((d for d in devices if getattr(d, 'process_index', here) == here),
              devices[0])


def memory_bytes(device: mesh_lib.Device) -> int | None:
  """Memory of an accelerator; None where it is unknown, as on a CPU."""
  try:
    stats = device.memory_stats() or {}
  except (NotImplementedError, jax.errors.JaxRuntimeError):
    stats = {}  # A device of a compiler's topology.
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  generation = tpu_generations.of_device_kind(device.device_kind)
  return generation.hbm_bytes_per_device if generation else None
