"""Starting the processes of a run, and what only one of them does."""

import atexit
import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from vit_jax.parallel import clusters, rendezvous
from vit_jax.parallel.failure_detector import HEARTBEAT_TIMEOUT, FailureDetector
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import INTERRUPTED, Stopped, end_process

# JAX's own health check aborts every process and names nobody that is of use; ours
# comes first.
_JAX_HEARTBEAT_TIMEOUT = int(HEARTBEAT_TIMEOUT) + 30


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
  """How this process finds the others; the defaults mean a single process."""
  coordinator_address: str = ''
  num_processes: int = 0
  process_id: int = -1
  # Let the cluster say what is not given.
  auto: bool = False
  # Seconds after which the processes that haven't come are named.
  start_timeout: float = 300.0


@contextlib.contextmanager
def session(group: ProcessGroup) -> Iterator[None]:
  """Runs its body as one process of a run, and ends all when one is lost.

  Raises:
    UserError: if the others don't come, or the flags don't fit.
  """
  detector = initialize(group)
  try:
    yield
  except BaseException as error:
    if detector and isinstance(error, Stopped):
      detector.leave()
    elif detector:
      status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
      # Runs before JAX's own, which waits for processes that are ending.
      atexit.register(end_process, status)
      detector.leave(error, status)
    raise
  else:
    if detector:
      detector.leave()


def initialize(group: ProcessGroup) -> FailureDetector | None:
  """Connects this process to the others, before JAX touches a device.

  Returns:
    What watches over the others until its `leave` is called; None if there are none.
  """
  if group.start_timeout <= 0:
    raise UserError(
        f'--start_timeout={group.start_timeout:g}; expected seconds, above 0.')
  spec = _process_spec(group)
  if spec is None:
    return None
  members, connections = rendezvous.join(
      spec.address, spec.num_processes, spec.process_id, group.start_timeout)
  jax.distributed.initialize(
      spec.address, spec.num_processes, spec.process_id,
      local_device_ids=spec.local_device_ids,
      # JAX would give a process one GPU even if it has its host for itself.
      cluster_detection_method='deactivate',
      # Everybody is there: what is left is JAX's own greeting.
      initialization_timeout=max(60, int(group.start_timeout)),
      heartbeat_timeout_seconds=_JAX_HEARTBEAT_TIMEOUT)
  detector = FailureDetector(members, spec.process_id, connections)
  detector.start()
  return detector


def _process_spec(group: ProcessGroup) -> clusters.ProcessSpec | None:
  """This process among the others; None if it is alone, or JAX alone knows."""
  numbered = group.num_processes > 0 or group.process_id >= 0
  if group.coordinator_address:
    rendezvous.split_address(group.coordinator_address)
    if group.auto and not numbered:
      return clusters.from_launcher(group.coordinator_address)
    return clusters.explicit(
        group.coordinator_address, group.num_processes, group.process_id)
  if numbered:
    raise UserError(
        '--num_processes and --process_id were given without '
        '--coordinator_address=HOST:PORT; give all three.')
  if not group.auto:
    return None
  spec = clusters.detected(group.start_timeout)
  if spec is None:
    # Without our rendezvous a process that doesn't come stays nameless.
    jax.distributed.initialize(initialization_timeout=int(group.start_timeout))
  return spec


def is_main() -> bool:
  """Whether this process writes the logs."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Waits until every process has come here; does nothing on a single one."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices(name)


def anywhere(flag: bool) -> bool:
  """Whether `flag` is True on any process; all of them must ask."""
  if jax.process_count() == 1:
    return flag
  from jax.experimental import multihost_utils
  return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def broadcast(value: Any) -> Any:
  """The first process's `value`, anything that JSON can hold; all of them must ask."""
  if jax.process_count() == 1:
    return value
  from jax.experimental import multihost_utils
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  # Arrays must have the same shape everywhere, so the length goes first.
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  buffer = np.resize(text, size)
  return json.loads(np.asarray(
      multihost_utils.broadcast_one_to_all(buffer), np.uint8).tobytes())
