"""Starting the processes of a run, and what only one of them does."""

import dataclasses

import jax

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
  """How this process finds the others; the defaults mean a single process."""
  coordinator_address: str = ''
  num_processes: int = 0
  process_id: int = -1
  # Let JAX find the others through the cluster's own environment.
  auto: bool = False


def initialize(group: ProcessGroup):
  """Connects this process to the others, before JAX touches a device."""
  explicit = bool(group.coordinator_address)
  if not explicit and (group.num_processes > 0 or group.process_id >= 0):
    raise UserError(
        '--num_processes and --process_id were given without '
        '--coordinator_address=HOST:PORT; give all three.')
  if explicit:
    if group.num_processes < 1 or not 0 <= group.process_id < group.num_processes:
      raise UserError(
          f'--process_id {group.process_id} of --num_processes '
          f'{group.num_processes}: with --coordinator_address give both, ids '
          'from 0.')
    jax.distributed.initialize(
        group.coordinator_address, group.num_processes, group.process_id)
  elif group.auto:
    jax.distributed.initialize()


def is_main() -> bool:
  """Whether this process writes the logs."""
  return jax.process_index() == 0


def barrier(name: str):
  """Waits until every process has come here; does nothing on a single one."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices(name)
