"""Taking a lease: is its last holder dead?"""

import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable

from vit_jax.runtime import process_identity
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.lease import record as record_lib
from vit_jax.runtime.lease.files import LeaseFiles, Seen
from vit_jax.runtime.lease.holder import Lease, LeaseLost
from vit_jax.runtime.lease.record import Record, Timing
from vit_jax.runtime.process_identity import ProcessIdentity
from vit_jax.runtime.storage.urls import PathLike

_TRIES = 100


@dataclasses.dataclass(frozen=True)
class Surroundings:
  """What tests replace."""
  identity: ProcessIdentity = dataclasses.field(default_factory=process_identity.own)
  uptime: Callable[[], float] = process_identity.uptime
  now: Callable[[], float] = time.time
  sleep: Callable[[float], None] = time.sleep


def acquire(folder: PathLike, timing: Timing = Timing(), *,
            on_lost: Callable[[LeaseLost], None] | None = None,
            say: Callable[[str], None] = print,
            surroundings: Surroundings | None = None) -> Lease:
  """Takes the lease of a folder, making the folder.

  Where the last holder has neither released it nor is known to have ended, this waits
  for a sign of life for as long as that holder had promised to give one.

  Args:
    folder: a path or URL.
    timing: of our own lease.
    on_lost: called once, by another thread, when our lease is lost.
    say: told what there is to wait for.
    surroundings: clocks and identity.

  Raises:
    UserError: if another process holds the folder; names it.
  """
  around = surroundings or Surroundings()
  files = LeaseFiles(folder, timing.validity)
  files.prepare()
  for _ in range(_TRIES):
    seen = files.newest()
    if seen is not None:
      _wait_until_free(files, seen, around, say)
    number = seen.number + 1 if seen else 1
    record = Record(uuid.uuid4().hex, around.identity, around.now(), timing.validity,
                    0, around.uptime())
    if files.take(number, record):
      return Lease(files, number, record, timing, around.uptime, on_lost)
  raise UserError(f'Cannot get hold of {folder}: others were faster {_TRIES} times. '
                  'Start fewer runs with this directory.')


def _wait_until_free(files: LeaseFiles, seen: Seen, around: Surroundings,
                     say: Callable[[str], None]) -> None:
  """Returns once the lease that was `seen` has no holder, or is not the newest.

  Raises:
    UserError: if its holder lives.
  """
  holder = record_lib.parse(seen.content)
  if holder is None:
    _observe(files, seen, Timing().validity, around, say)
    return
  if holder.released or process_identity.has_ended(holder.identity, around.identity):
    return
  if process_identity.share_machine(holder.identity, around.identity):
    silence = (around.now() - seen.modified if files.on_disk
               else around.uptime() - holder.uptime)
    if silence < holder.validity:
      raise _held(files, holder, f'{max(0.0, silence):.0f} s ago')
  _observe(files, seen, holder.validity, around, say)


def _observe(files: LeaseFiles, seen: Seen, promise: float, around: Surroundings,
             say: Callable[[str], None]) -> None:
  """Waits until a holder gives a sign of life, or has given none for `promise`."""
  last = record_lib.name(record_lib.parse(seen.content))
  say(f'{files.folder} was last held by {last}. Waiting for at most {promise:g} s to '
      'see whether that still runs.')
  began = around.uptime()
  while True:
    # Before the look, so that the last look comes when the time has passed.
    silence = around.uptime() - began
    now = files.newest()
    if now is None or now.number != seen.number:
      return  # `acquire` finds out.
    holder = record_lib.parse(now.content)
    if holder is not None and holder.released:
      return
    if (now.content, now.version) != (seen.content, seen.version):
      raise _held(files, holder, 'just now')
    if silence >= promise:
      return
    around.sleep(min(1.0, promise / 20))


def _held(files: LeaseFiles, holder: Record | None, seen: str) -> UserError:
  since = ''
  if holder is not None:
    begun = datetime.datetime.fromtimestamp(holder.since, datetime.UTC)
    since = f' since {begun:%Y-%m-%d %H:%M:%S} UTC'
  return UserError(
      f'{files.folder} is in use by {record_lib.name(holder)}{since} (last sign of '
      f'life: {seen}). Two runs in one directory would delete each other\'s '
      'checkpoints. Wait for its end, stop it, or give another directory.')
