"""Prepared TFDS data sets as examples, read by random access to their shards.

Reading metadata and parsing records does not import TensorFlow, and nothing here
touches the network: preparing a data set is the user's decision and TFDS's job.
"""

import bisect
import concurrent.futures as futures
import os
import threading

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import builders, preparing, splits
from vit_jax.data.arrayrecords import ArrayRecordFile
from vit_jax.data.record_labels import flatten, open_labels
from vit_jax.data.tfrecords import TfRecordFile
from vit_jax.runtime.errors import DataError, UserError

_READERS = {'tfrecord': TfRecordFile, 'array_record': ArrayRecordFile}


class TfdsExamples:
  """See `sources.Examples`."""

  def __init__(self, builder, ranges, data: DataSection):
    from tensorflow_datasets.proto import tf_example_pb2
    self._parse = tf_example_pb2.Example.FromString
    self._image_key, self._labels = data.image_key, open_labels(builder, data)
    self.class_names = self._labels.class_names
    shape = tuple(_image(builder, data).shape)
    self.image_shape = shape if all(shape) else None
    self._open = _READERS[builder.info.file_format.value]
    self._segments = _segments(builder, ranges)
    self._starts = np.cumsum([0] + [s.stop - s.start for s in self._segments]).tolist()
    self._lock, self._files = threading.Lock(), None

  def __len__(self):
    return self._starts[-1]

  def check(self):
    with self._lock:
      if self._files is None:
        sizes = {s.path: s.file_size for s in self._segments}
        # The walk over a shard waits for the disk, hardly for the interpreter.
        with futures.ThreadPoolExecutor(16) as pool:
          opened = pool.map(self._open, sizes.keys(), sizes.values())
          self._files = dict(zip(sizes, opened, strict=True))

  def read(self, i: int):
    segment, record = self._locate(i)
    features = self._parse(self._files[segment.path].read(record)).features.feature
    images = features[self._image_key].bytes_list.value
    if len(images) != 1:
      raise DataError(
          f'it has {len(images)} values of {self._image_key}, expected one; prepare '
          'the data set again.')
    return images[0], self._labels.read(features)

  def where(self, i: int):
    segment, record = self._locate(i)
    return f'{segment.path}, its record {record}'

  def _locate(self, i):
    if not 0 <= i < len(self):
      raise IndexError(f'example {i} of {len(self)}')
    at = bisect.bisect_right(self._starts, i) - 1
    segment = self._segments[at]
    return segment, segment.start + i - self._starts[at]


class _Segment:
  """Records start..stop of one file that has file_size records."""

  def __init__(self, path, start, stop, file_size):
    self.path, self.start, self.stop = path, start, stop
    self.file_size = file_size


def open_examples(data: DataSection, split: str) -> TfdsExamples:
  """Opens a prepared data set; raises UserError with what to do otherwise."""
  try:
    builder = builders.open_builder(data)
  except builders.NotPrepared as e:
    raise preparing.not_prepared(data) from e
  if not builder.info.splits:
    raise preparing.not_prepared(data)
  kind = builder.info.file_format.value
  if kind not in _READERS:
    raise UserError(
        f'{data.name} is stored as {kind}, expected {" or ".join(_READERS)}; prepare '
        'it again in one of these formats.')
  lengths = {name: list(info.shard_lengths)
             for name, info in builder.info.splits.items()}
  ranges = splits.resolve(split, lengths, builder.info.full_name)
  return TfdsExamples(builder, ranges, data)


def _image(builder, data):
  """The image feature; raises UserError for a key that names none."""
  flat = flatten(builder.info.features)
  images = [key for key, f in flat.items()
            if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
  if data.image_key not in images:
    raise UserError(
        f'config.data.image_key={data.image_key!r} does not name uint8 images of '
        f'{data.name}, expected one of: {", ".join(images) or "(there are none)"}. '
        f'Its features are: {", ".join(flat)}.')
  return flat[data.image_key]


def _segments(builder, ranges):
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
