"""Prepared TFDS data sets as examples, read by random access to their shards.

Reading metadata and parsing records does not import TensorFlow, and nothing here
touches the network: preparing a data set is the user's decision and TFDS's job.
"""

import bisect
import concurrent.futures as futures
import difflib
import os
import re
import threading

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data import splits
from vit_jax.data.arrayrecords import ArrayRecordFile
from vit_jax.data.tfrecords import TfRecordFile
from vit_jax.errors import DataError, UserError
from vit_jax.sections import DataSection

_READERS = {'tfrecord': TfRecordFile, 'array_record': ArrayRecordFile}


class TfdsExamples:
  """See `sources.Examples`."""

  def __init__(self, builder, ranges, data: DataSection):
    from tensorflow_datasets.proto import tf_example_pb2
    self._parse = tf_example_pb2.Example.FromString
    image, label = _features(builder, data)
    self.class_names = list(label.names)
    shape = tuple(image.shape)
    self.image_shape = shape if all(shape) else None
    self._keys = data.image_key, data.label_key
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
    image_key, label_key = self._keys
    images = features[image_key].bytes_list.value
    labels = features[label_key].int64_list.value
    if len(images) != 1 or len(labels) != 1:
      raise DataError(
          f'record {record} has {len(images)} values of {image_key} and '
          f'{len(labels)} of {label_key}, expected one of each; prepare the data '
          'set again.')
    return images[0], labels[0]

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
  builder = _builder(data)
  if not builder.info.splits:
    raise UserError(_how_to_prepare(builder, data))
  kind = builder.info.file_format.value
  if kind not in _READERS:
    raise UserError(
        f'{data.name} is stored as {kind}, expected {" or ".join(_READERS)}; prepare '
        'it again in one of these formats.')
  lengths = {name: list(info.shard_lengths)
             for name, info in builder.info.splits.items()}
  ranges = splits.resolve(split, lengths, builder.info.full_name)
  return TfdsExamples(builder, ranges, data)


def _builder(data):
  # TFDS reads the variable once, on import; here it counts when it is used.
  data_dir = os.path.expanduser(data.dir or os.environ.get('TFDS_DATA_DIR', '')) or None
  if data_dir and '://' in data_dir:
    raise UserError(
        f'config.data.dir={data_dir!r} is on an object store, which is not supported; '
        'expected a local path: copy the data set to a disk, or mount the bucket '
        '(for example with gcsfuse) and name the mount point.')
  if data.name == 'digits':
    from vit_jax.data import digits
    return digits.builder(data_dir)
  _check_name(data.name)
  try:
    return tfds.builder(data.name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as e:
    raise UserError(_unknown_name(data.name)) from e
  except (AssertionError, ValueError) as e:
    reason = str(e).strip().splitlines()[0]
    raise UserError(
        f'TFDS cannot open config.data.name={data.name!r}: {reason} Expected '
        "NAME, NAME/CONFIG or NAME/CONFIG:VERSION such as 'cifar10:3.*.*', with a "
        'version that is prepared or that this TFDS can prepare.') from e


def _check_name(name):
  # TFDS would look up other namespaces, e.g. 'huggingface:x', over the network.
  if not re.fullmatch(r'[A-Za-z_]\w*(/[\w.+-]+)*(:[\d*][\w.*]*)?', name):
    raise UserError(
        f'config.data.name={name!r} is no name of a data set. Expected a TFDS name '
        "such as 'cifar10' or 'sun397/tfds:4.*.*', 'digits', or 'folder'.")


def _unknown_name(name):
  # Community data sets would be looked up over the network.
  known = ['digits', 'folder', *tfds.list_builders(with_community_datasets=False)]
  close = difflib.get_close_matches(re.split('[/:]', name)[0].lower(), known, n=3)
  nearest = (f'Did you mean {" or ".join(close)}?' if close else
             'See https://www.tensorflow.org/datasets/catalog for the names.')
  return (f'There is no data set {name!r}, expected a TFDS name, "digits" or "folder". '
          f'{nearest} For images of your own use config.data.name=folder.')


def _how_to_prepare(builder, data):
  root = builder.data_dir_root if hasattr(builder, 'data_dir_root') else None
  root = os.fspath(root or getattr(builder, '_data_dir_root', data.dir))
  # Not the `tfds build` command: in TFDS 4.9.10 it fails without apache_beam.
  message = (
      f'Data set {data.name} is not prepared in {root} (expected it in '
      f'{builder.data_dir}). Prepare it on a machine with a network:\n'
      f'  python -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{data.name}', data_dir='{root}').download_and_prepare()\"\n"
      'or name the directory that has it with config.data.dir or TFDS_DATA_DIR.')
  manual = getattr(builder, 'MANUAL_DOWNLOAD_INSTRUCTIONS', None)
  if manual:
    message += (
        '\nThis data set needs files that you download by hand into '
        f'{os.path.join(root, "downloads", "manual")} first:\n{manual.strip()}')
  return message


def _features(builder, data):
  """The image and the label feature; raises UserError for unsuitable keys."""
  flat = _flatten(builder.info.features)
  images = [key for key, f in flat.items()
            if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
  labels = [key for key, f in flat.items() if isinstance(f, tfds.features.ClassLabel)]
  for option, key, valid in (('image_key', data.image_key, images),
                             ('label_key', data.label_key, labels)):
    if key not in valid:
      what = 'uint8 images' if option == 'image_key' else 'class labels'
      raise UserError(
          f'config.data.{option}={key!r} does not name {what} of {data.name}, expected '
          f'one of: {", ".join(valid) or "(there are none)"}. '
          f'Its features are: {", ".join(flat)}.')
  return flat[data.image_key], flat[data.label_key]


def _flatten(features, prefix=''):
  # As TFDS flattens names in its records: 'outer/inner'.
  flat = {}
  for key, feature in features.items():
    if isinstance(feature, tfds.features.FeaturesDict):
      flat.update(_flatten(feature, f'{prefix}{key}/'))
    else:
      flat[prefix + key] = feature
  return flat


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
