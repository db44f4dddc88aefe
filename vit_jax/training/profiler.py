"""A profiler trace of some steps of a run, under WORKDIR/profile."""

import tempfile
from typing import Any

import jax

from vit_jax.config.sections import ProfileSection
from vit_jax.runtime import storage
from vit_jax.runtime.errors import warn
from vit_jax.runtime.storage import StorageError


class Profiler:
  """Traces `section.steps` steps from the `section.start`-th of this process."""

  def __init__(self, section: ProfileSection, workdir: str, start: int) -> None:
    # A resumed run is profiled too: the first steps of any process are not typical.
    self._first = start + section.start if section.steps else -1
    self._end = self._first + section.steps
    self._workdir = workdir
    # JAX writes to disks only.
    self._directory = (tempfile.mkdtemp(prefix='vit_jax_') if section.steps
                       and storage.is_url(workdir) else f'{workdir}/profile')
    self._on = False

  def before(self, step: int) -> None:
    """To be called before the update from `step` to `step + 1`."""
    if step == self._first:
      jax.profiler.start_trace(self._directory)
      self._on = True

  def after(self, step: int, metrics: Any) -> None:
    """To be called with what the update to `step` returned."""
    if self._on and step == self._end:
      jax.block_until_ready(metrics)
      self.close()

  def close(self) -> None:
    """Ends a trace that is still going on."""
    if self._on:
      jax.profiler.stop_trace()
      self._on = False
      self._upload()

  def _upload(self) -> None:
    if not storage.is_url(self._workdir):
      return
    try:
      for name in storage.below(self._directory):
        storage.write_bytes(
            storage.join(self._workdir, 'profile', name),
            storage.read_bytes(storage.join(self._directory, name)))
    except StorageError as e:
      warn(f'the profile stays in {self._directory}: {e}')
