"""What the file of a lease says."""

import dataclasses
import datetime
import json
import math
from typing import Any

from vit_jax.runtime.process_identity import ProcessIdentity

# What somebody else's record may promise.
_LONGEST = 3600.0


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds."""
  # After so many without a sign of life others take over.
  validity: float = 60.0
  renew_every: float = 10.0


@dataclasses.dataclass(frozen=True)
class Record:
  """Who holds a folder."""
  # Unlike any other's, so that a holder knows its own file.
  token: str
  identity: ProcessIdentity
  since: float  # seconds since 1970, by the holder's clock
  validity: float
  # Of the newest sign of life; on disks the file's own time tells that.
  beat: int
  uptime: float
  released: bool = False

  def to_bytes(self) -> bytes:
    return json.dumps(dataclasses.asdict(self), indent=2).encode()

  def next_beat(self, uptime: float) -> 'Record':
    return dataclasses.replace(self, beat=self.beat + 1, uptime=uptime)


def parse(content: bytes) -> Record | None:
  """A record; None for a damaged one."""
  try:
    values: dict[str, Any] = json.loads(content)
    identity = ProcessIdentity(**values.pop('identity'))
    record = Record(identity=identity, **values)
    # What is calculated with must be fit for that.
    datetime.datetime.fromtimestamp(record.since, datetime.UTC)
    if not (math.isfinite(record.validity) and math.isfinite(record.uptime)):
      return None
    return dataclasses.replace(
        record, validity=min(max(float(record.validity), 0.0), _LONGEST),
        uptime=float(record.uptime), released=record.released is True)
  except (ValueError, TypeError, LookupError, AttributeError, OverflowError, OSError,
          RecursionError):
    return None


def name(record: Record | None) -> str:
  """How messages call a holder."""
  if record is None:
    return 'a process that left no name'
  return f'process {record.identity.pid} on {record.identity.host}'
