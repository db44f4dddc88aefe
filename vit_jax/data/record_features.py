"""Features of a `tf.train.Example` as TFDS stores them, without TensorFlow.

A record is flat: 'objects/location' of n objects is one list of 3 n numbers, whose
shape (None, 3) only the metadata know. A sequence of sequences is two features,
its values and the lengths of its rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.runtime.errors import DataError

# `Example.features.feature`: a tf.train.Feature by its name.
Record = Mapping[str, Any]
Feature = tfds.features.FeatureConnector
_VALUES, _LENGTHS = '/ragged_flat_values', '/ragged_row_lengths_'


def flat_specs(features: tfds.features.FeaturesDict
               ) -> dict[str, tfds.features.TensorInfo]:
  """{name in the record: `tfds.features.TensorInfo`} of a FeaturesDict."""
  return _flatten(features.get_serialized_info(), '')


def flat_features(features: tfds.features.FeaturesDict, prefix: str = ''
                  ) -> dict[str, Feature]:
  """{name in the record: feature}; TFDS joins names as in 'outer/inner'."""
  flat = {}
  for key, feature in features.items():
    if isinstance(feature, tfds.features.FeaturesDict):
      flat.update(flat_features(feature, f'{prefix}{key}/'))
    else:
      flat[prefix + key] = feature
  return flat


def _flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flatten(value, f'{prefix}{key}/'))
    else:
      flat[prefix + key] = value
  return flat


def read(record: Record, name: str, spec: tfds.features.TensorInfo
         ) -> np.ndarray | list:
  """One feature of a record.

  Args:
    record: where to read it.
    name: as in `flat_specs`.
    spec: its entry there.

  Returns:
    An array with the spec's dtype and shape, unknown sizes filled in; nested lists
    of arrays for sequences of sequences.

  Raises:
    DataError: where the record has no such feature, or other sizes.
  """
  if spec.sequence_rank < 2:
    return _array(record, name, spec.np_dtype, spec.shape)
  item = (None, *spec.shape[spec.sequence_rank:])
  rows = _array(record, name + _VALUES, spec.np_dtype, item)
  # The innermost lengths come last.
  for level in reversed(range(spec.sequence_rank - 1)):
    lengths = _array(record, f'{name}{_LENGTHS}{level}', np.int64, (None,))
    if lengths.sum() != len(rows):
      raise DataError(f'{name} has {len(rows)} items in rows of {lengths.tolist()}; '
                      'prepare the data set again.')
    ends = np.cumsum(lengths)
    rows = [rows[end - length:end] for end, length in zip(ends, lengths, strict=True)]
  return rows


def numbers(record: Record, name: str) -> Sequence[int]:
  """The integers of a feature, as a sequence without shape."""
  if name not in record:
    raise DataError(f'it has no {name}; prepare the data set again.')
  return record[name].int64_list.value


def _array(record: Record, name: str, dtype: Any,
           shape: Sequence[int | None]) -> np.ndarray:
  if name not in record:
    # Reading it would give an empty list.
    raise DataError(f'it has no {name}; prepare the data set again.')
  kind = record[name].WhichOneof('kind')
  values = getattr(record[name], kind).value if kind else ()
  if np.dtype(dtype).kind not in 'biuf':
    dtype = object  # bytes
  try:
    return np.array(values, dtype).reshape(
        [-1 if size is None else size for size in shape])
  except ValueError as e:
    raise DataError(
        f'{name} has {len(values)} values, which do not make the shape {shape} of the '
        "data set's metadata; prepare the data set again.") from e
