"""ImageNet downloads as (synset, file name, bytes), read once from front to back.

A synset is named by its WordNet id, such as n01440764. Three layouts are known:
  FOLDER/n01440764.tar      one tar file per synset
  FOLDER/n01440764/*.JPEG   one folder per synset
  FILE.tar or FILE.tar.gz   one tar file of either of them
"""

import os
import pathlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Self

from vit_jax.preprocessing.host import decode
from vit_jax.runtime.errors import UserError

WNID = re.compile(r'n\d{8}')
LAYOUTS = ('Expected a folder with n01440764.tar, n01440764/ and so on, or one tar '
           'file of them.')
# (synset, file name, bytes or the Exception that reading ended with).
Image = tuple[str, str, bytes | Exception]
# The block of zeros that ends a tar file; the stubs of the standard library lack it.
_END = tarfile.EOFHeaderError  # pyright: ignore[reportAttributeAccessIssue]
# What reading a damaged tar file may end in.
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error)


class _Strict(tarfile.TarInfo):
  """Makes `tarfile` report files that are cut off, which it takes for ended."""

  # The original calls its argument like the module.
  @classmethod
  def fromtarfile(  # pyright: ignore[reportIncompatibleMethodOverride]
      cls, tar: tarfile.TarFile) -> Self:
    try:
      return super().fromtarfile(tar)
    except _END:
      raise
    except tarfile.HeaderError as e:
      raise tarfile.ReadError(f'no header at byte {tar.offset:,}: {e}') from e


def synsets(source: str) -> list[str]:
  """The sorted WordNet ids in a download.

  Of a folder it lists the names, of one large tar file it reads all headers, for
  which a compressed one has to be read as a whole.
  """
  path = _existing(source)
  if path.is_dir():
    names = os.listdir(path)
    found = {wnid for name in names if (wnid := _wnid(name))}
    if twice := sorted(name for name in names if f'{name}.tar' in names):
      raise UserError(
          f'{source} holds both {twice[0]} and {twice[0]}.tar ({len(twice)} such '
          'pairs); its images would be there twice. Remove one of the two.')
  else:
    found = {wnid for _, member in _members(path)
             if (wnid := _wnid_of_member(member.name))}
  if not found:
    raise UserError(f'{source} holds nothing named by a WordNet id. {LAYOUTS}')
  return sorted(found)


def images(source: str) -> Iterator[Image]:
  """All images of a download.

  A damaged tar file of one synset ends early with such an exception, and the next
  one follows; damage of one large file raises UserError.
  """
  path = _existing(source)
  if not path.is_dir():
    yield from _images_of_large_tar(path)
    return
  for name in sorted(os.listdir(path)):
    if not (wnid := _wnid(name)):
      continue
    if (path / name).is_dir():
      yield from _images_of_folder(wnid, path / name)
    else:
      with open(path / name, 'rb') as f:
        yield from _images_of_tar(wnid, f, name)


def total_bytes(source: str) -> int:
  """Size of the tar files; folders count nothing, as listing them takes long."""
  path = _existing(source)
  files = [path] if path.is_file() else [e for e in path.iterdir() if e.is_file()]
  return sum(file.stat().st_size for file in files)


def _existing(source: str) -> pathlib.Path:
  path = pathlib.Path(source).expanduser()
  if not path.exists():
    raise UserError(f'{source} does not exist. {LAYOUTS}')
  return path


def _wnid(name: str) -> str | None:
  """The id in 'n01440764' or 'n01440764.tar', else None."""
  stem = name.removesuffix('.tar')
  return stem if WNID.fullmatch(stem) else None


def _wnid_of_member(name: str) -> str | None:
  """The id of 'any/n01440764.tar' or 'any/n01440764/image.JPEG', else None."""
  folder, _, last = name.rpartition('/')
  return _wnid(last) if last.endswith('.tar') else _wnid(folder.rpartition('/')[2])


def _members(path: pathlib.Path
             ) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
  """(tar file, member) of every regular file, in a single pass."""
  # Without '|' the bytes of members that are not read are skipped on the disk.
  mode = 'r|*' if path.name.endswith(('gz', 'bz2', 'xz')) else 'r:*'
  try:
    with tarfile.open(path, mode, tarinfo=_Strict) as tar:
      while (member := tar.next()) is not None:
        if member.isfile():
          yield tar, member
        # Otherwise it keeps a record of all 14 million; the stubs lack the list.
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
  except _DAMAGE as e:
    raise UserError(
        f'{path} is no tar file, is cut off or damaged ({e}). {LAYOUTS} Download it '
        'again, or compare its checksum.') from e


def _images_of_large_tar(path: pathlib.Path) -> Iterator[Image]:
  for tar, member in _members(path):
    wnid = _wnid_of_member(member.name)
    if not wnid:
      continue
    if member.name.endswith('.tar'):
      yield from _images_of_tar(wnid, _open_member(tar, member), member.name)
    elif _is_image(member.name):
      yield wnid, os.path.basename(member.name), _bytes_of(tar, member)


def _bytes_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Exception:
  try:
    return _open_member(tar, member).read()
  except _DAMAGE as e:
    return e


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
  file = tar.extractfile(member)
  assert file is not None  # Only directories and devices have none.
  return file


def _images_of_tar(wnid: str, file: IO[bytes], name: str) -> Iterator[Image]:
  try:
    with tarfile.open(fileobj=file, mode='r|*', tarinfo=_Strict) as tar:
      while (member := tar.next()) is not None:
        if member.isfile() and _is_image(member.name):
          yield wnid, os.path.basename(member.name), _open_member(tar, member).read()
  except _DAMAGE as e:
    yield wnid, f'{name}, from there to its end', e


def _images_of_folder(wnid: str, folder: pathlib.Path) -> Iterator[Image]:
  for name in sorted(os.listdir(folder)):
    if _is_image(name):
      try:
        yield wnid, name, (folder / name).read_bytes()
      except OSError as e:
        yield wnid, name, e


def _is_image(name: str) -> bool:
  last = name.rpartition('/')[2]
  return decode.has_image_ending(last) and not last.startswith('.')
