"""Where this process stands in a run of several: address, number and size.

From explicit flags, or from what the cluster says: JAX knows SLURM, Open MPI 4, Cloud
TPU VMs and GKE. With an address given, the number and the size come from whatever
launcher started the process, so every MPI works.
"""

import dataclasses
import os
import re

from vit_jax.runtime.errors import UserError

# Environment variables of (number, size): Open MPI, MPICH and Intel MPI, MVAPICH, and
# SLURM. It is the last: what mpirun starts inside of an allocation has the variables of
# the batch script or of mpirun's own helpers, by which several would be number 0.
_RANKS = (
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
    ('PMI_RANK', 'PMI_SIZE'),
    ('MV2_COMM_WORLD_RANK', 'MV2_COMM_WORLD_SIZE'),
    ('SLURM_PROCID', 'SLURM_NTASKS'),
)
# (number on this host, tasks on each host), in the same order.
_LOCAL_RANKS = (
    ('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE'),
    ('MPI_LOCALRANKID', 'MPI_LOCALNRANKS'),
    ('MV2_COMM_WORLD_LOCAL_RANK', 'MV2_COMM_WORLD_LOCAL_SIZE'),
    ('SLURM_LOCALID', 'SLURM_STEP_TASKS_PER_NODE'),
)


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
  """This process among the others; as `jax.distributed.initialize` takes it."""
  # 'host:port' of process 0.
  address: str
  num_processes: int
  process_id: int
  # GPUs of the host that belong to this process; None: all.
  local_device_ids: tuple[int, ...] | None = None


def explicit(address: str, num_processes: int, process_id: int) -> ProcessSpec:
  """What flags say; raises UserError for what can't be."""
  if num_processes < 1 or not 0 <= process_id < num_processes:
    raise UserError(
        f'--process_id {process_id} of --num_processes {num_processes}: with '
        '--coordinator_address give both, ids from 0, or --multihost, where the '
        'launcher says them.')
  return ProcessSpec(address, num_processes, process_id, _own_devices())


def from_launcher(address: str) -> ProcessSpec:
  """The number and size that SLURM or MPI gave this process."""
  for number, size in _RANKS:
    if number in os.environ and size in os.environ:
      return explicit(address, int(os.environ[size]), int(os.environ[number]))
  raise UserError(
      '--multihost with --coordinator_address takes number and size from SLURM or '
      'MPI, but none of their variables is set '
      f'({", ".join(number for number, _ in _RANKS)}). Give --num_processes and '
      '--process_id.')


def detected(timeout: float) -> ProcessSpec | None:
  """What JAX finds out from the cluster; None if this JAX won't say.

  Args:
    timeout: seconds to wait until the name of process 0's host can be resolved.
  """
  try:
    from jax._src.clusters import ClusterEnv
    find = ClusterEnv.auto_detect_unset_distributed_params
  except (ImportError, AttributeError):
    return None  # Not a public interface.
  try:
    address, size, number, _ = find(
        os.environ.get('JAX_COORDINATOR_ADDRESS'), None, None, None, None,
        int(timeout))
  except TypeError:
    return None
  except (RuntimeError, OSError, ValueError, KeyError) as e:
    raise UserError(
        f'--multihost: the cluster was recognised, but {type(e).__name__}: {e}. '
        'Give --coordinator_address, --num_processes and --process_id.') from e
  if address is None or size is None or number is None:
    raise UserError(
        '--multihost: this process runs in no cluster that JAX recognises (a SLURM '
        'step, Open MPI 4, a Cloud TPU VM, a GKE TPU job). With another MPI add '
        '--coordinator_address=HOST:PORT; elsewhere give it with --num_processes and '
        '--process_id.')
  return ProcessSpec(address, size, number, _own_devices())


def _own_devices() -> tuple[int, ...] | None:
  """One GPU each if the launcher started several processes on this host."""
  for number, tasks in _LOCAL_RANKS:
    if number not in os.environ:
      continue
    # Such as '8', or '2(x3),1' for four hosts.
    if re.fullmatch(r'1(\(x\d+\))?', os.environ.get(tasks, '1')) is None:
      return (int(os.environ[number]),)
    return None
  return None
