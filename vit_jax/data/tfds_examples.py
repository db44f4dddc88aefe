"""Prepared TFDS data sets as examples, read by random access to their shards.

Reading metadata and parsing records does not import TensorFlow, and nothing here
touches the network unless config.data.dir is a URL: preparing a data set is the user's
decision and TFDS's job.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import builders, preparing, splits, store_metadata
from vit_jax.data.data_dir import base_name, tfds_data_dir
from vit_jax.data.record_features import flat_features
from vit_jax.data.record_labels import open_labels
from vit_jax.data.records.arrayrecords import ArrayRecordFiles
from vit_jax.data.records.record_files import Piece, RecordFiles
from vit_jax.data.records.store_files import StoreRecordFiles
from vit_jax.data.records.tfrecords import TfRecordFiles
from vit_jax.runtime import storage
from vit_jax.runtime.errors import DataError, UserError

_FORMATS: dict[str, Callable[[Sequence[str], Sequence[int]], RecordFiles]] = {
    'tfrecord': TfRecordFiles, 'array_record': ArrayRecordFiles}


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
    self._segments = _segments(builder, ranges, data)
    self._starts = np.cumsum([0] + [s.stop - s.start for s in self._segments])
    # A file once, though it may be part of several slices.
    sizes = {s.path: s.file_size for s in self._segments}
    number = {path: i for i, path in enumerate(sizes)}
    self._file = np.array([number[s.path] for s in self._segments])
    self._first_record = np.array([s.start for s in self._segments])
    self.remote = any(map(storage.is_url, sizes))
    self._files = _record_files(builder, data, sizes)

  def __len__(self) -> int:
    return int(self._starts[-1])

  def check_files(self) -> None:
    self._files.check()

  @property
  def num_bytes(self) -> int:
    return self._files.num_bytes

  def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
    pieces = []
    for first, stop in ranges:
      while first < stop:
        (segment,), (record,) = self._locate(np.array([first]))
        end = min(stop, int(self._starts[segment + 1]))
        pieces.append(Piece(int(self._file[segment]), int(record),
                            int(record) + end - first))
        first = end
    self._files.hold(pieces)

  def read(self, indices: np.ndarray
           ) -> tuple[list[bytes], list[int | Sequence[int]]]:
    segments, records = self._locate(indices)
    images, labels = [], []
    for body in self._files.read(self._file[segments], records):
      features = self._parse(body).features.feature
      values = features[self._image_key].bytes_list.value
      if len(values) != 1:
        raise DataError(
            f'it has {len(values)} values of {self._image_key}, expected one; prepare '
            'the data set again.')
      images.append(values[0])
      labels.append(self._labels.read(features))
    return images, labels

  def where(self, i: int) -> str:
    segments, records = self._locate(np.array([i]))
    return f'{self._segments[int(segments[0])].path}, its record {records[0]}'

  def _locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of their segments, numbers of their records in the files)."""
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
      raise IndexError(f'examples {indices.min()} to {indices.max()} of {len(self)}')
    segments = np.searchsorted(self._starts, indices, side='right') - 1
    return segments, self._first_record[segments] + indices - self._starts[segments]


class _Segment(NamedTuple):
  """Records start..stop of one file that has file_size records."""
  path: str
  start: int
  stop: int
  file_size: int


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


def _record_files(builder: tfds.core.DatasetBuilder, data: DataSection,
                  sizes: Mapping[str, int]) -> RecordFiles:
  """`sizes`: path -> number of records."""
  kind, paths, counts = builders.file_format(builder), list(sizes), list(sizes.values())
  if not any(map(storage.is_url, paths)):
    return _FORMATS[kind](paths, counts)
  if kind != 'tfrecord':
    raise UserError(
        f'{data.name} in {data.dir} is stored as {kind}, which is not read from object '
        'stores; expected tfrecord. Prepare it in that format, or copy it to a disk.')
  return StoreRecordFiles(paths, counts, int(data.cache_limit_gib * 2**30))


def _segments(builder: tfds.core.DatasetBuilder,
              ranges: Sequence[tuple[str, int, int]], data: DataSection
              ) -> list[_Segment]:
  data_dir = tfds_data_dir(data.dir)
  def place(path: str) -> str:
    if not storage.is_url(data_dir):
      return path
    return store_metadata.in_store(path, data_dir, base_name(data.name))
  segments = []
  for split, start, stop in ranges:
    info = builder.info.splits[split]
    first = 0
    for path, size in zip(info.filepaths, info.shard_lengths, strict=True):
      begin, end = max(start - first, 0), min(stop - first, size)
      if begin < end:
        segments.append(_Segment(place(os.fspath(path)), begin, end, size))
      first += size
  return segments
