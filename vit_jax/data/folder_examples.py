"""Image files as examples: ROOT/SPLIT/CLASS/FILE.

Classes are numbered in the sorted order of their names over all splits. The order
of examples is that of a hash of CLASS/FILE, so that slices such as 'train[:90%]'
mix classes and stay the same wherever the folder lies.
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.data import splits
from vit_jax.runtime.errors import UserError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')
_LAYOUT = ('Expected config.data.dir/SPLIT/CLASS/IMAGE, for example '
           'train/cat/0001.jpg, with images named ' + ', '.join(EXTENSIONS) + '.')


class FolderExamples:
  """See `sources.Examples`."""

  image_shape = None

  def __init__(self, class_names: list[str], paths: list[str],
               labels: list[int]) -> None:
    self.class_names = class_names
    self._paths, self._labels = paths, labels

  def __len__(self) -> int:
    return len(self._paths)

  def check_files(self) -> None:
    pass  # Each file stands for itself.

  def read(self, indices: np.ndarray) -> tuple[list[bytes], list[int]]:
    images = []
    for i in indices:
      with open(self._paths[i], 'rb') as f:
        images.append(f.read())
    return images, [self._labels[i] for i in indices]

  def where(self, i: int) -> str:
    return self._paths[i]


def open_examples(data: DataSection, split: str) -> FolderExamples:
  """Lists the folder; raises UserError where it has another layout."""
  if not data.dir or '://' in data.dir:
    raise UserError(
        f"config.data.name='folder' needs a local folder, got config.data.dir="
        f'{data.dir!r}. {_LAYOUT}')
  if data.label_rule:
    raise UserError(
        f"config.data.label_rule={data.label_rule!r} computes labels from a record's "
        "features, which images in a folder do not have; set it to ''. The class is "
        'the name of the folder.')
  root = pathlib.Path(data.dir).expanduser()
  found = {entry.name: _files(entry) for entry in _folders(root, 'config.data.dir')}
  found = {name: files for name, files in found.items() if files}
  if not found:
    raise UserError(f'{root} holds no images in folders of that layout. {_LAYOUT}')
  ranges = splits.resolve(
      split, {name: [len(files)] for name, files in found.items()}, str(root))
  class_names = _class_names(found, data.train_split, root)
  number = {name: i for i, name in enumerate(class_names)}
  paths, labels = [], []
  for part, start, stop in ranges:
    for relative in found[part][start:stop]:
      paths.append(os.path.join(root, part, relative))
      labels.append(number[os.path.dirname(relative)])
  return FolderExamples(class_names, paths, labels)


def _folders(path: str | os.PathLike, role: str) -> list[os.DirEntry]:
  try:
    with os.scandir(path) as entries:
      return sorted((e for e in entries if e.is_dir() and not e.name.startswith('.')),
                    key=lambda e: e.name)
  except OSError as e:
    raise UserError(f'{role}={str(path)!r} cannot be listed ({e.strerror}). '
                    f'{_LAYOUT}') from e


def _files(split_entry: os.DirEntry) -> list[str]:
  """CLASS/FILE of every image of a split, in the order of examples."""
  found = []
  for folder in _folders(split_entry.path, 'split folder'):
    with os.scandir(folder.path) as entries:
      entries = [e for e in entries if not e.name.startswith('.')]
    if nested := [e.name for e in entries if e.is_dir()]:
      # Leaving its images out would only show as a smaller data set.
      raise UserError(
          f'{folder.path} is a class folder, and holds the folder {nested[0]!r}. '
          f'{_LAYOUT} Move the images up, or make the folder a class of its own.')
    found += [f'{folder.name}/{e.name}' for e in entries
              if e.name.lower().endswith(EXTENSIONS)]
  return sorted(found, key=lambda name: (_hash(name), name))


def _hash(name: str) -> bytes:
  data = name.encode('utf-8', 'surrogateescape')
  return hashlib.blake2b(data, digest_size=8).digest()


def _class_names(found: Mapping[str, list[str]], train_split: str,
                 root: pathlib.Path) -> list[str]:
  classes = {split: {os.path.dirname(file) for file in files}
             for split, files in found.items()}
  # A class that cannot be learnt is nearly always a folder named differently in two
  # splits, which would otherwise only show as a poor accuracy.
  named = {part.split('[')[0].strip() for part in train_split.split('+')}
  trained = sorted(named & set(classes))
  learnt = set().union(*(classes[split] for split in trained))
  for split, names in classes.items():
    if trained and (unknown := sorted(names - learnt)):
      raise UserError(
          f'{root}/{split} has the class folders {", ".join(unknown[:5])} '
          f'({len(unknown)} in all), which the training data in '
          f'{" and ".join(trained)} lack. Expected every class among the training '
          'data; rename or remove those folders.')
  return sorted(set().union(*classes.values()))
