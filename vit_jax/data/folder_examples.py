"""Image files as examples: ROOT/SPLIT/CLASS/FILE.

Classes are numbered in the sorted order of their names over all splits. The order
of examples is that of a hash of CLASS/FILE, so that slices such as 'train[:90%]'
mix classes and stay the same wherever the folder lies.
"""

import concurrent.futures as futures
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.data import folder_listing, splits
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError

# Objects of a store that are read at the same time.
_REQUESTS = 64


class FolderExamples:
  """See `sources.Examples`."""

  image_shape = None
  num_bytes = 0

  def __init__(self, class_names: list[str], paths: list[str],
               labels: list[int]) -> None:
    self.class_names = class_names
    self.remote = bool(paths) and storage.is_url(paths[0])
    self._paths, self._labels = paths, labels

  def __len__(self) -> int:
    return len(self._paths)

  def check_files(self) -> None:
    """Each file stands for itself."""

  def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
    """Neighbours are not read together."""

  def read(self, indices: np.ndarray) -> tuple[list[bytes], list[int]]:
    paths = [self._paths[i] for i in indices]
    images = (_requests().map(storage.read_bytes, paths) if self.remote
              else map(_read_file, paths))
    return list(images), [self._labels[i] for i in indices]

  def where(self, i: int) -> str:
    return self._paths[i]


@functools.cache
def _requests() -> futures.ThreadPoolExecutor:
  """Threads that wait for object stores, of all folders of the process."""
  return futures.ThreadPoolExecutor(_REQUESTS, 'vit_jax folder')


def _read_file(path: str) -> bytes:
  with open(path, 'rb') as file:
    return file.read()


def open_examples(data: DataSection, split: str) -> FolderExamples:
  """Lists the folder; raises UserError where it has another layout."""
  if not data.dir:
    raise UserError(
        f"config.data.name='folder' needs a folder, got config.data.dir={data.dir!r}. "
        f'{folder_listing.layout()}')
  if data.label_rule:
    raise UserError(
        f"config.data.label_rule={data.label_rule!r} computes labels from a record's "
        "features, which images in a folder do not have; set it to ''. The class is "
        'the name of the folder.')
  root = os.path.expanduser(data.dir).rstrip('/') or '/'
  listing = (folder_listing.list_objects(root) if storage.is_url(root)
             else folder_listing.list_images(pathlib.Path(root)))
  found = listing.files
  if not found:
    left_out = f' Left out: {listing.left_out}.' if listing.left_out else ''
    raise UserError(f'{root} holds no images in folders of that layout.{left_out} '
                    f'{folder_listing.layout()}')
  ranges = splits.resolve(
      split, {name: [len(files)] for name, files in found.items()}, root)
  class_names = _class_names(found, data.train_split, root)
  number = {name: i for i, name in enumerate(class_names)}
  paths, labels = [], []
  for part, start, stop in ranges:
    for relative in found[part][start:stop]:
      paths.append(os.path.join(root, part, relative))
      labels.append(number[os.path.dirname(relative)])
  return FolderExamples(class_names, paths, labels)


def _class_names(found: Mapping[str, Sequence[str]], train_split: str,
                 root: str) -> list[str]:
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
