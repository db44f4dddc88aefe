"""Prepared TFDS data sets as examples, read by random access to their shards.

Reading metadata and parsing records does not import TensorFlow, and nothing here
touches the network: preparing a data set is the user's decision and TFDS's job.
"""

import bisect
import concurrent.futures as futures
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import builders, preparing, splits
from vit_jax.data.arrayrecords import ArrayRecordFile
from vit_jax.data.record_features import flat_features
from vit_jax.data.record_labels import open_labels
from vit_jax.data.tfrecords import TfRecordFile
from vit_jax.runtime.errors import DataError, UserError


class RecordFile(Protocol):
  """One file of records; opening it checks that it has as many as it should."""

  def __len__(self) -> int: ...

  def read(self, i: int) -> bytes:
    """Record `i`; raises DataError where it is damaged."""
    ...


# By the format's name, `(path, number of records) -> RecordFile`.
_FORMATS: dict[str, Callable[[str, int], RecordFile]] = {
    'tfrecord': TfRecordFile, 'array_record': ArrayRecordFile}


class TfdsExamples:
  """See `sources.Examples`."""

  def __init__(self, builder: tfds.core.DatasetBuilder,
               ranges: Sequence[tuple[str, int, int]], data: DataSection) -> None:
    """`ranges`: see `splits.resolve`."""
    from tensorflow_datasets.proto import tf_example_pb2
    # The class is made when the module is imported.
    example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
    self._parse = example.FromString
    self._image_key, self._labels = data.image_key, open_labels(builder, data)
    self.class_names = self._labels.class_names
    self.image_shape = _image_shape(builder, data)
    segments = _segments(builder, ranges)
    self._segments = segments
    self._starts = np.cumsum([0] + [s.stop - s.start for s in segments]).tolist()
    self._files = _Files(_FORMATS[builders.file_format(builder)],
                         {s.path: s.file_size for s in segments})

  def __len__(self) -> int:
    return self._starts[-1]

  def check_files(self) -> None:
    self._files.opened()

  def read(self, i: int) -> tuple[bytes, int | Sequence[int]]:
    segment, record = self._locate(i)
    file = self._files.opened()[segment.path]
    features = self._parse(file.read(record)).features.feature
    images = features[self._image_key].bytes_list.value
    if len(images) != 1:
      raise DataError(
          f'it has {len(images)} values of {self._image_key}, expected one; prepare '
          'the data set again.')
    return images[0], self._labels.read(features)

  def where(self, i: int) -> str:
    segment, record = self._locate(i)
    return f'{segment.path}, its record {record}'

  def _locate(self, i: int) -> tuple['_Segment', int]:
    """(its segment, the number of its record in the file)."""
    if not 0 <= i < len(self):
      raise IndexError(f'example {i} of {len(self)}')
    at = bisect.bisect_right(self._starts, i) - 1
    segment = self._segments[at]
    return segment, segment.start + i - self._starts[at]


class _Segment(NamedTuple):
  """Records start..stop of one file that has file_size records."""
  path: str
  start: int
  stop: int
  file_size: int


class _Files:
  """The files of a split, opened together when one of them is read."""

  def __init__(self, open_file: Callable[[str, int], RecordFile],
               sizes: Mapping[str, int]) -> None:
    """`sizes`: path -> number of records."""
    self._open, self._sizes = open_file, sizes
    self._lock = threading.Lock()
    self._opened: dict[str, RecordFile] = {}

  def opened(self) -> dict[str, RecordFile]:
    """Path -> file; from any thread. Raises DataError for damaged files."""
    with self._lock:
      if not self._opened:
        # The walk over a shard waits for the disk, hardly for the interpreter.
        with futures.ThreadPoolExecutor(16) as pool:
          files = pool.map(self._open, self._sizes.keys(), self._sizes.values())
          self._opened = dict(zip(self._sizes, files, strict=True))
      return self._opened


def open_examples(data: DataSection, split: str) -> TfdsExamples:
  """Opens a prepared data set; raises UserError with what to do otherwise."""
  try:
    builder = builders.open_builder(data)
  except builders.NotPrepared as e:
    raise preparing.not_prepared(data) from e
  if not builder.info.splits:
    raise preparing.not_prepared(data)
  kind = builders.file_format(builder)
  if kind not in _FORMATS:
    raise UserError(
        f'{data.name} is stored as {kind}, expected {" or ".join(_FORMATS)}; prepare '
        'it again in one of these formats.')
  lengths = {name: list(info.shard_lengths)
             for name, info in builder.info.splits.items()}
  ranges = splits.resolve(split, lengths, builder.info.full_name)
  return TfdsExamples(builder, ranges, data)


def _image_shape(builder: tfds.core.DatasetBuilder, data: DataSection
                 ) -> tuple[int, ...] | None:
  """See `Examples.image_shape`; raises UserError for a key that names no image."""
  flat = flat_features(builders.features(builder))
  images = [key for key, f in flat.items()
            if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
  if data.image_key not in images:
    raise UserError(
        f'config.data.image_key={data.image_key!r} does not name uint8 images of '
        f'{data.name}, expected one of: {", ".join(images) or "(there are none)"}. '
        f'Its features are: {", ".join(flat)}.')
  shape: Any = flat[data.image_key].shape
  return tuple(shape) if all(shape) else None


def _segments(builder: tfds.core.DatasetBuilder,
              ranges: Sequence[tuple[str, int, int]]) -> list[_Segment]:
  segments = []
  for split, start, stop in ranges:
    info = builder.info.splits[split]
    first = 0
    for path, size in zip(info.filepaths, info.shard_lengths, strict=True):
      begin, end = max(start - first, 0), min(stop - first, size)
      if begin < end:
        segments.append(_Segment(os.fspath(path), begin, end, size))
      first += size
  return segments
