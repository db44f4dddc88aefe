"""The image files under ROOT/SPLIT/CLASS, and what lies there and is no image."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from vit_jax.preprocessing.host import decode
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError, warn

# How many examples of each kind a message has.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Listing:
  """What a root folder holds.

  Attributes:
    files: {split: CLASS/FILE of its images in the order of examples}; no empty ones.
    left_out: what was left out and why; '' for nothing.
  """
  files: dict[str, tuple[str, ...]]
  left_out: str


@dataclasses.dataclass
class _LeftOut:
  """Names relative to the root."""
  other_endings: list[str] = dataclasses.field(default_factory=list)
  outside_of_classes: list[str] = dataclasses.field(default_factory=list)
  empty_classes: list[str] = dataclasses.field(default_factory=list)

  def told(self) -> str:
    parts = []
    if self.other_endings:
      count = collections.Counter(
          pathlib.PurePath(name).suffix.lower() or 'no ending'
          for name in self.other_endings)
      kinds = ', '.join(f'{kind}: {n}' for kind, n in count.most_common(_SHOWN + 2))
      parts.append(f'{len(self.other_endings):,} file(s) of other kinds ({kinds}), '
                   f'{_such_as(self.other_endings)}')
    if self.outside_of_classes:
      parts.append(f'{len(self.outside_of_classes):,} image(s) outside of class '
                   f'folders, {_such_as(self.outside_of_classes)}')
    if self.empty_classes:
      parts.append(f'{len(self.empty_classes):,} class folder(s) without an image, '
                   f'{_such_as(self.empty_classes)}')
    return '; '.join(parts)


def layout() -> str:
  """What a root folder is expected to look like."""
  return ('Expected config.data.dir/SPLIT/CLASS/IMAGE, for example '
          'train/cat/0001.jpg, with images named ' + ', '.join(decode.endings()) + '.')


def list_images(root: pathlib.Path) -> Listing:
  """Lists a root folder, once in a process while no folder in it changes.

  What is left out is told at the first time.

  Raises:
    UserError: where it cannot be listed, or a class folder holds folders.
  """
  splits = _folders(root, 'config.data.dir')
  folders = [entry.path for split in splits
             for entry in _folders(split.path, 'split folder')]
  changed = [os.stat(path).st_mtime_ns
             for path in [root, *(split.path for split in splits), *folders]]
  return _list(root, (*folders, *changed))


@functools.lru_cache(maxsize=4)
def list_objects(root: str) -> Listing:
  """As `list_images`, for a URL in an object store; once in a process."""
  left_out = _LeftOut()
  found: dict[str, list[str]] = {}
  for name in storage.below(root):
    parts = name.split('/')
    if any(part.startswith('.') for part in parts):
      continue
    if len(parts) > 3:
      raise _nested(storage.join(root, *parts[:2]), parts[2])
    if not decode.has_image_ending(name):
      left_out.other_endings += [name] if len(parts) == 3 else []
    elif len(parts) == 3:
      found.setdefault(parts[0], []).append('/'.join(parts[1:]))
    else:
      left_out.outside_of_classes.append(name)
  _tell(root, left_out.told(), found)
  return Listing({split: _in_order(names) for split, names in found.items()},
                 left_out.told())


@functools.lru_cache(maxsize=4)
def _list(root: pathlib.Path, version: tuple) -> Listing:
  """`version` is equal where the listing is."""
  del version
  left_out, files = _LeftOut(), {}
  left_out.outside_of_classes += _images_in(root, root)
  for split in _folders(root, 'config.data.dir'):
    left_out.outside_of_classes += _images_in(root, split.path)
    files[split.name] = _files(root, split, left_out)
  told = left_out.told()
  files = {split: names for split, names in files.items() if names}
  _tell(root, told, files)
  return Listing(files, told)


def _tell(root: str | os.PathLike, told: str, files: Mapping[str, Sequence[str]]
          ) -> None:
  if told and files and _is_main():
    warn(f'{root}: left out {told}. Images are files named '
         f'{", ".join(decode.endings())}.')


def _is_main() -> bool:
  import jax  # Already started wherever a run has several processes.
  return jax.process_index() == 0


def _files(root: pathlib.Path, split: os.DirEntry, left_out: _LeftOut
           ) -> tuple[str, ...]:
  """CLASS/FILE of every image of a split, in the order of examples."""
  found = []
  for folder in _folders(split.path, 'split folder'):
    names = []
    for entry in _visible(folder.path):
      if entry.is_dir():
        # Leaving its images out would only show as a smaller data set.
        raise _nested(folder.path, entry.name)
      if decode.has_image_ending(entry.name):
        names.append(f'{folder.name}/{entry.name}')
      else:
        left_out.other_endings.append(os.path.relpath(entry.path, root))
    if not names:
      left_out.empty_classes.append(os.path.relpath(folder.path, root))
    found += names
  return _in_order(found)


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
  return tuple(sorted(names, key=lambda name: (_hash(name), name)))


def _nested(folder: str, name: str) -> UserError:
  return UserError(
      f'{folder} is a class folder, and holds the folder {name!r}. {layout()} Move the '
      'images up, or make the folder a class of its own.')


def _images_in(root: pathlib.Path, folder: str | os.PathLike) -> Iterator[str]:
  for entry in _visible(folder):
    if decode.has_image_ending(entry.name) and not entry.is_dir():
      yield os.path.relpath(entry.path, root)


def _visible(folder: str | os.PathLike) -> list[os.DirEntry]:
  with os.scandir(folder) as entries:
    return [entry for entry in entries if not entry.name.startswith('.')]


def _folders(path: str | os.PathLike, role: str) -> list[os.DirEntry]:
  try:
    return sorted((e for e in _visible(path) if e.is_dir()), key=lambda e: e.name)
  except OSError as e:
    raise UserError(f'{role}={str(path)!r} cannot be listed ({e.strerror}). '
                    f'{layout()}') from e


def _hash(name: str) -> bytes:
  data = name.encode('utf-8', 'surrogateescape')
  return hashlib.blake2b(data, digest_size=8).digest()


def _such_as(names: Sequence[str]) -> str:
  return 'such as ' + ', '.join(sorted(names)[:_SHOWN])
