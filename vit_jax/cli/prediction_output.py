"""Where the predictions of `vit_jax predict` go, and in which form."""

import contextlib
import csv
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from vit_jax.runtime import atomic
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.live_line import LiveLine

if TYPE_CHECKING:
  import numpy as np

# (path of an image, the numbers of its most probable classes, all probabilities).
Write = Callable[[str, 'np.ndarray', 'np.ndarray'], None]
# `(file, names of the classes, how many are shown) -> Write`.
Form = Callable[[TextIO, Sequence[str], int], Write]


def blocks(file: TextIO, names: Sequence[str], count: int) -> Write:
  """The path, and a line for each class."""
  del count
  def write(path: str, top: 'np.ndarray', probabilities: 'np.ndarray') -> None:
    print(path, file=file)
    for i in top:
      print(f'  {probabilities[i]:7.2%}  {names[i]}', file=file)
  return write


def one_line(file: TextIO, names: Sequence[str], count: int) -> Write:
  """Path, name, probability, name, probability, ... with tabs between them."""
  del count
  def write(path: str, top: 'np.ndarray', probabilities: 'np.ndarray') -> None:
    pairs = (f'{names[i]} {probabilities[i]:.4f}' for i in top)
    print(path, *pairs, sep='\t', file=file)
  return write


def json_lines(file: TextIO, names: Sequence[str], count: int) -> Write:
  """One JSON object a line."""
  del count
  def write(path: str, top: 'np.ndarray', probabilities: 'np.ndarray') -> None:
    print(json.dumps({'image': path, 'classes': [
        {'class': int(i), 'name': names[i], 'probability': float(probabilities[i])}
        for i in top]}), file=file)
  return write


def table(file: TextIO, names: Sequence[str], count: int) -> Write:
  """CSV with a header: image, name_1, probability_1, name_2, ..."""
  rows = csv.writer(file, lineterminator='\n')
  rows.writerow(['image', *(f'{what}_{i}' for i in range(1, count + 1)
                            for what in ('name', 'probability'))])
  def write(path: str, top: 'np.ndarray', probabilities: 'np.ndarray') -> None:
    rows.writerow([path, *(value for i in top
                           for value in (names[i], f'{probabilities[i]:.6f}'))])
  return write


# What the ending of --output stands for.
FILES: dict[str, Form] = {'.csv': table, '.jsonl': json_lines}


def check_output(path: str) -> None:
  """Raises UserError unless `path` can be written and says which form it has."""
  if pathlib.PurePath(path).suffix.lower() not in FILES:
    raise UserError(f'--output={path} is neither of {", ".join(FILES)}; give a file '
                    'with one of these endings.')
  atomic.check_free(path)


@contextlib.contextmanager
def to_file(path: str, names: Sequence[str], count: int) -> Iterator[Write]:
  """Writes a file that is complete or absent."""
  form = FILES[pathlib.PurePath(path).suffix.lower()]
  with atomic.new(path) as temporary:
    with open(temporary, 'w', encoding='utf-8', errors='surrogateescape',
              newline='') as file:
      yield form(file, names, count)


class Counter:
  """A live line on a terminal that says how many images are done."""

  def __init__(self, total: int, *, shown: bool) -> None:
    self._total, self._done = total, 0
    self._line = LiveLine(sys.stderr, shown=shown)

  def count(self) -> None:
    self._done += 1
    if self._done % 64 == 0 or self._done == self._total:
      self._line.draw(f'{self._done:,} of {self._total:,} images')

  def erase(self) -> None:
    self._line.erase()
