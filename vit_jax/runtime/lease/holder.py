"""A lease that this process holds, and how it notices that it does no more."""

import contextlib
import os
import threading
from collections.abc import Callable

from vit_jax.runtime.errors import UserError, first_line
from vit_jax.runtime.lease import record as record_lib
from vit_jax.runtime.lease.files import LeaseFiles
from vit_jax.runtime.lease.record import Record, Timing
from vit_jax.runtime.stopping import LOST_PEER

# Of its validity, what a holder trusts in without a sign of life.
_TRUST = 0.75


class LeaseLost(UserError):
  """Somebody else may hold the folder now; nothing more may be written to it."""
  # It may have been a disk or store that gave no answer for a while.
  exit_status = LOST_PEER


class Lease:
  """A folder that this process holds; a context manager that releases it."""

  def __init__(self, files: LeaseFiles, number: int, record: Record, timing: Timing,
               uptime: Callable[[], float],
               on_lost: Callable[[LeaseLost], None] | None) -> None:
    """By `acquire`, which has created the file of this number."""
    self._files, self._number, self._record = files, number, record
    self._timing, self._uptime, self._on_lost = timing, uptime, on_lost
    self._alive_at = record.uptime  # when the last sign of life was begun
    self._why_lost = self._trouble = ''
    # A child that was forked holds nothing.
    self._pid = os.getpid()
    self._lock = threading.Lock()
    self._released = threading.Event()
    self._thread = threading.Thread(target=self._keep, name='lease', daemon=True)
    self._thread.start()

  @property
  def lost(self) -> bool:
    """Whether somebody else may hold the folder now; once True, always True."""
    with self._lock:
      self._look_at_clock()
      return bool(self._why_lost)

  def check(self) -> None:
    """Raises LeaseLost if the lease is lost; to be called before anything is written.
    """
    if self.lost:
      raise LeaseLost(
          f'This run does not hold {self._files.folder} any more: {self._why_lost}. It '
          'stops lest it disturb another run. Start the same command again to go on.')

  def release(self) -> None:
    """Lets others have the folder at once, unless it is lost or released already."""
    if os.getpid() != self._pid or self._released.is_set():
      return
    lost = self.lost
    self._released.set()
    self._thread.join(self._files.patience)
    if not lost:
      # If that fails, whoever comes next finds a holder that is silent.
      with contextlib.suppress(UserError):
        self._files.release(self._number, self._record)

  def renew(self) -> None:
    """Gives a sign of life and looks for whoever has taken over.

    The lease's own thread does so. A store or disk with trouble is tried again the next
    time.
    """
    if self.lost:
      return
    began = self._uptime()
    record = self._record.next_beat(began)
    try:
      ours = self._files.show_life(self._number, record)
      newest = self._files.newest_number()
      successor = self._files.read(newest) if newest > self._number else None
    except UserError as e:
      self._trouble = first_line(e)
      return
    with self._lock:
      self._look_at_clock()
      if self._why_lost:
        # It took so long that somebody may have looked on in vain.
        return
      if newest > self._number:
        other = record_lib.name(record_lib.parse(successor or b''))
        self._why_lost = f'{other} has taken it over'
      elif not ours:
        self._why_lost = 'somebody has removed or replaced its mark'
      else:
        self._record, self._alive_at, self._trouble = record, began, ''

  def __enter__(self) -> 'Lease':
    return self

  def __exit__(self, *unused: object) -> None:
    self.release()

  def _keep(self) -> None:
    while not self._released.wait(self._timing.renew_every):
      self.renew()
      try:
        self.check()
      except LeaseLost as e:
        if self._on_lost is not None:
          self._on_lost(e)
        return

  def _look_at_clock(self) -> None:
    silence = self._uptime() - self._alive_at
    if self._why_lost or self._released.is_set():
      return
    if silence > _TRUST * self._timing.validity:
      self._why_lost = f'it could give no sign of life for {silence:.0f} s'
      if self._trouble:
        self._why_lost += f' ({self._trouble.rstrip(".")})'
