"""Image files as examples: ROOT/SPLIT/CLASS/FILE.

Classes are numbered in the sorted order of their names over all splits. The order
of examples is that of a hash of CLASS/FILE, so that slices such as 'train[:90%]'
mix classes and stay the same wherever the folder lies.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.data import folder_listing, splits
from vit_jax.runtime.errors import UserError


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
        f'{data.dir!r}. {folder_listing.layout()}')
  if data.label_rule:
    raise UserError(
        f"config.data.label_rule={data.label_rule!r} computes labels from a record's "
        "features, which images in a folder do not have; set it to ''. The class is "
        'the name of the folder.')
  root = pathlib.Path(data.dir).expanduser()
  listing = folder_listing.list_images(root)
  found = listing.files
  if not found:
    left_out = f' Left out: {listing.left_out}.' if listing.left_out else ''
    raise UserError(f'{root} holds no images in folders of that layout.{left_out} '
                    f'{folder_listing.layout()}')
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


def _class_names(found: Mapping[str, Sequence[str]], train_split: str,
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
