"""Which process on which machine, so that others can tell whether it lives."""

import dataclasses
import functools
import os
import pathlib
import socket
import time


@dataclasses.dataclass(frozen=True)
class ProcessIdentity:
  """A process, told apart from a later one of the same number."""
  host: str
  pid: int
  # Of a kernel and what it shows to a process: numbers and `uptime` mean the same to
  # all that have this. '' where nothing is known of that.
  machine: str
  # When the process was started, in ticks of that machine; '' as above.
  started: str


def own() -> ProcessIdentity:
  """Of this process."""
  pid = os.getpid()
  return ProcessIdentity(socket.gethostname(), pid, _machine(), _started(pid) or '')


def share_machine(one: ProcessIdentity, other: ProcessIdentity) -> bool:
  """Whether two processes are known to see the same numbers and the same uptime."""
  return bool(one.machine) and one.machine == other.machine


def has_ended(other: ProcessIdentity, here: ProcessIdentity) -> bool:
  """Whether `other` is known, on the machine of `here`, to be there no more."""
  if not share_machine(other, here):
    return False
  started = _started(other.pid)
  if started is None:
    return not _is_there(other.pid)
  return started != other.started


def uptime() -> float:
  """Seconds of a clock that nobody sets and that runs while a machine sleeps."""
  clock = getattr(time, 'CLOCK_BOOTTIME', time.CLOCK_MONOTONIC)
  return time.clock_gettime(clock)


@functools.cache
def _machine() -> str:
  try:
    kernel = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    # Containers have process numbers, and may have an uptime, of their own.
    spaces = [os.readlink(f'/proc/self/ns/{kind}') for kind in ('pid', 'time')]
  except OSError:
    return ''
  return ' '.join([kernel, *spaces])


def _started(pid: int) -> str | None:
  """None if we may not know; '' of one that has ended and waits to be noticed."""
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return None
  # The name, in brackets, may hold anything. Behind it are the fields from the third
  # on: 3 is the state, 20 the number of threads, 22 the start.
  fields = text.rpartition(')')[2].split()
  # Of a killed process the first thread may have ended while others still finish what
  # they asked of the system, and have its files open.
  ended = fields[0] in 'ZX' and int(fields[17]) <= 1
  return '' if ended else fields[19]


def _is_there(pid: int) -> bool:
  # Other users' processes may be hidden in /proc, but not from this.
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except (OSError, OverflowError):
    return True
  return True
