"""Records that lack a feature, or do not fit the metadata."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from vit_jax.config.sections import DataSection
from vit_jax.data import record_features
from vit_jax.data.record_labels import RuleLabels
from vit_jax.runtime.errors import DataError

F = tfds.features
FEATURES = F.FeaturesDict({
    'objects': F.Sequence({
        'size': F.ClassLabel(num_classes=2),
        'pixel_coords': F.Tensor(shape=(3,), dtype=np.float32)}),
    'words': F.Sequence(F.Sequence(np.int64)),
    'outer': {'flag': np.bool_}})
SPECS = record_features.flat_specs(FEATURES)


def record(**lists):
  example = tf_example_pb2.Example()
  for key, values in lists.items():
    feature = example.features.feature[key.replace('__', '/')]
    if values and isinstance(values[0], float):
      feature.float_list.value.extend(values)
    else:
      feature.int64_list.value.extend(values)
  return example.features.feature


def test_values():
  raw = record(objects__pixel_coords=[1., 2., 3., 4., 5., 6.], outer__flag=[1],
               objects__size=[], words__ragged_flat_values=[7, 8, 9],
               words__ragged_row_lengths_0=[2, 0, 1])
  coordinates = record_features.read(
      raw, 'objects/pixel_coords', SPECS['objects/pixel_coords'])
  assert coordinates.dtype == np.float32
  assert coordinates.tolist() == [[1, 2, 3], [4, 5, 6]]
  assert record_features.read(raw, 'objects/size', SPECS['objects/size']).shape == (0,)
  flag = record_features.read(raw, 'outer/flag', SPECS['outer/flag'])
  assert flag.shape == () and flag.dtype == bool and flag
  words = record_features.read(raw, 'words', SPECS['words'])
  assert [row.tolist() for row in words] == [[7, 8], [], [9]]


@pytest.mark.parametrize('name, lists, told', [
    ('objects/size', {}, 'it has no objects/size; prepare'),
    ('outer/flag', {'outer__flag': [0, 1]}, r'2 values, which do not make the shape'),
    ('objects/pixel_coords', {'objects__pixel_coords': [1., 2.]}, '2 values.*None, 3'),
    ('words', {'words__ragged_flat_values': [1, 2],
               'words__ragged_row_lengths_0': [1]}, r'2 items in rows of \[1\]'),
])
def test_records_that_do_not_fit(name, lists, told):
  with pytest.raises(DataError, match=told):
    record_features.read(record(**lists), name, SPECS[name])


def test_scene_without_objects_has_no_distance():
  data = DataSection('clevr', label_rule='clevr_distance')
  labels = RuleLabels('clevr', data, SPECS)
  near = record(objects__pixel_coords=[0., 0., 9.25, 0., 0., 11.])
  assert labels.read(near) == 3  # From 9 to 9.5.
  with pytest.raises(DataError, match='clevr_distance: the scene has no objects'):
    labels.read(record(objects__pixel_coords=[]))
