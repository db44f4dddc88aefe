"""The barrier of an asynchronous save, which a process that failed releases.

When one process cannot write its part, Orbax lets the others wait at a barrier for
twenty minutes. The failed process goes on to the barrier that ends the save, though;
whoever waits at an earlier one and sees it there gives up at once.
"""

import time
from typing import Any, Self

import jax

# Orbax's names: those of the barriers inside of a save contain the first, the one after
# it is called the second. Under other names a failure merely takes until the timeout.
_INSIDE = 'async_'
_AFTER = 'ThreadSaveMultiHostValueHolder:set_value_start'
_POLL_SECONDS = 0.2
# Barriers whose traces are kept, far more than a process can lag behind.
_KEPT = 16


class PeerFailed(RuntimeError):
  """Another process could not write its part of a checkpoint."""


class SaveBarrier:
  """`barrier(key=..., timeout_ms=...)` over all processes, for background threads."""

  def __init__(self, name: str, client: Any, process_index: int,
               process_count: int) -> None:
    """See `create`; `client` is JAX's DistributedRuntimeClient."""
    self._client = client
    self._process_index, self._process_count = process_index, process_count
    self._name = f'vit_jax/{name}'
    # Key -> how often this process came to it.
    self._visits: dict[str, int] = {}
    # Folders of the key-value store whose barriers all have passed.
    self._passed: list[str] = []

  @classmethod
  def create(cls, name: str) -> Self:
    """The barrier of this process; `name` must be the same on all, and new."""
    from jax._src import distributed  # Where Orbax takes it from, too.
    return cls(
        name, distributed.global_state.client, jax.process_index(),
        jax.process_count())

  def __call__(self, *, key: str, timeout_ms: int) -> None:
    visit = self._visits[key] = self._visits.get(key, 0) + 1
    here = self._folder(key, visit)
    after = self._folder(_AFTER, self._visits.get(_AFTER, 0) + 1)
    self._client.key_value_set(f'{here}{self._process_index}', '')
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
      there = self._arrived(here)
      if len(there) == self._process_count:
        break
      ahead = self._arrived(after) - there if _INSIDE in key else set()
      if ahead:
        raise PeerFailed(
            f'process {", ".join(sorted(ahead))} could not write its part')
      if time.monotonic() > deadline:
        missing = {str(i) for i in range(self._process_count)} - there
        raise TimeoutError(
            f'process {", ".join(sorted(missing))} did not come to the barrier {key} '
            f'within {timeout_ms / 1000:g} s')
      time.sleep(_POLL_SECONDS)
    self._forget(here)

  def _folder(self, key: str, visit: int) -> str:
    return f'{self._name}/{key}/{visit}/'

  def _arrived(self, folder: str) -> set[str]:
    """Indices of the processes that have come."""
    return {name.rsplit('/', 1)[1]
            for name, _ in self._client.key_value_dir_get(folder)}

  def _forget(self, folder: str) -> None:
    if self._process_index:
      return
    self._passed.append(folder)
    if len(self._passed) > _KEPT:
      self._client.key_value_delete(self._passed.pop(0))
