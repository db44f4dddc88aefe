"""The numbered files of a lease."""

import dataclasses
import re

from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.lease.record import Record, parse
from vit_jax.runtime.storage.urls import PathLike

_FOLDER = '.lease'
_NAME = re.compile(r'\d{8}')
# Past leases whose files stay, so that whoever looked some leases ago cannot create one
# that is past.
_KEPT = 8
_TRIES = 50


class _NotOurs(Exception):
  """A file was removed or replaced by somebody."""


@dataclasses.dataclass(frozen=True)
class Seen:
  """A file as somebody saw it; signs of life change it."""
  number: int
  content: bytes
  version: str
  modified: float  # by the clock of the disk or the store


class LeaseFiles:
  """Reading and writing them; raises StorageError, a UserError, from everywhere."""

  def __init__(self, folder: PathLike, validity: float) -> None:
    self.folder = str(folder)
    self.on_disk = not storage.is_url(folder)
    self._folder = storage.join(folder, _FOLDER)
    # For a store to answer; several requests fit into the time that a holder has.
    self.patience = max(1.0, validity / 5)

  def prepare(self) -> None:
    storage.make_folder(self._folder)

  def newest_number(self) -> int:
    """The number of the highest file, 0 without any."""
    return max(self._numbers(), default=0)

  def newest(self) -> Seen | None:
    """The highest file, None without any."""
    path = ''
    for _ in range(_TRIES):
      number = self.newest_number()
      if not number:
        return None
      path = self._path(number)
      try:
        # In this order a sign of life in between makes a difference to the next look.
        stat = storage.stat(path, self.patience)
        content = storage.read_bytes(path, timeout=self.patience)
        return Seen(number, content, stat.version, stat.modified)
      except FileNotFoundError:
        continue  # There is a higher one by now.
    raise UserError(f'Cannot read {path} although it is listed. Remove {self._folder} '
                    f'if no run uses {self.folder}.')

  def read(self, number: int) -> bytes | None:
    """The content of a file, None if it is absent."""
    try:
      return storage.read_bytes(self._path(number), timeout=self.patience)
    except FileNotFoundError:
      return None

  def take(self, number: int, record: Record) -> bool:
    """Creates the file of a number; returns whether the lease is ours."""
    if not storage.create(
        self._path(number), record.to_bytes(), timeout=self.patience):
      return False
    numbers = self._numbers()
    if max(numbers, default=0) != number:
      # What we had seen was long past, and the number had been freed.
      storage.delete(self._path(number), self.patience)
      return False
    for old in numbers:
      if old <= number - _KEPT:
        storage.delete(self._path(old), self.patience)
    return True

  def show_life(self, number: int, record: Record) -> bool:
    """Changes the version of our file; False if it is ours no more."""
    def renewed(content: bytes | None) -> bytes:
      found = parse(content or b'')
      if found is None or found.token != record.token:
        raise _NotOurs
      return record.to_bytes()

    try:
      storage.touch(self._path(number), renewed, self.patience)
    except _NotOurs:
      return False
    return True

  def release(self, number: int, record: Record) -> None:
    released = dataclasses.replace(record, released=True)
    storage.write_bytes(
        self._path(number), released.to_bytes(), timeout=self.patience)

  def _numbers(self) -> list[int]:
    return [int(name) for name in storage.children(self._folder, self.patience)
            if _NAME.fullmatch(name)]

  def _path(self, number: int) -> str:
    return storage.join(self._folder, f'{number:08d}')
