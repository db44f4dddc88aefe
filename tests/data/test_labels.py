"""Derived labels against formulas of their own on what TFDS reads back."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_tfds
from image_data import write_tiny

from vit_jax.config.sections import DataSection
from vit_jax.data import labels, open_source
from vit_jax.runtime.errors import UserError

F = tfds.features
COUNT = 16


# Where rules change their mind, in float32, and the two values beside each.
def around(*values):
  exact = np.float32(values)
  return [*exact, *np.nextafter(exact, np.float32(0)), *np.nextafter(
      exact, np.float32(1e9))]


DEPTHS = around(8, 8.5, 9, 9.5, 10, 100)
METRES = around(8, 20, 999)


def example(spec, features, i):
  rng = np.random.default_rng([7, i])
  made = tiny_tfds.value(features, rng)
  objects = made.get('objects')
  if spec == 'clevr' and i < len(DEPTHS):
    for thing in objects:
      thing['pixel_coords'][2] = 100
    objects[-1]['pixel_coords'][2] = DEPTHS[i]
  if spec == 'kitti':
    if i == 0:
      made['objects'] = []
    elif i < 4:
      for thing in objects:
        thing['type'] = 3 + i  # Only cyclists and the like.
    elif i < 4 + len(METRES):
      for thing in objects:
        thing['location'][2] = 2000
      objects[0].update(type=i % 3)
      objects[0]['location'][2] = METRES[i - 4]
  if spec == 'dsprites':
    made['image'] = (made['image'] > 127).astype(np.uint8)
  return made


@pytest.fixture(scope='module', params=['tfrecord', 'array_record'])
def file_format(request):
  return request.param


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, file_format):
  """(data_dir, what TFDS reads back) of a builder; written once."""
  made = {}
  def prepare(spec, count=COUNT):
    if spec not in made:
      directory = str(tmp_path_factory.mktemp(spec))
      features = tfds.builder(spec, data_dir=directory).info.features
      write_tiny(spec, directory, {'train': count},
                 lambda _, i: example(spec, features, i), file_format, shards=2)
      builder = tfds.builder(spec, data_dir=directory)
      read = (builder.as_data_source(split='train') if file_format == 'array_record'
              else builder.as_dataset(split='train', read_config=tfds.ReadConfig(
                  interleave_cycle_length=1, try_autocache=False)).as_numpy_iterator())
      made[spec] = directory, list(read)
    return made[spec]
  return prepare


def clevr_distance(e):
  # The largest i whose threshold lies strictly below the depth.
  depth = min(np.float32(row[2]) for row in e['objects']['pixel_coords'])
  return max(i for i, t in enumerate((0, 8, 8.5, 9, 9.5, 10)) if np.float32(t) < depth)


def kitti_distance(e):
  depths = [row[2] for row, kind in zip(
      e['objects']['location'], e['objects']['type'], strict=True) if kind < 3]
  depth = min(depths, default=1000)
  return max(i for i, t in enumerate((-100, 8, 20, 999)) if np.float32(t) < depth)


# Task: (builder, settings, label of an example, number of classes).
TASKS = {
    'Clevr-Count': ('clevr', dict(label_rule='clevr_count'),
                    lambda e: len(e['objects']['color']) - 3, 8),
    'Clevr-Dist': ('clevr', dict(label_rule='clevr_distance'), clevr_distance, 6),
    'KITTI-Dist': ('kitti', dict(label_rule='kitti_distance'), kitti_distance, 4),
    'dSpr-Loc': ('dsprites', dict(label_rule='dsprites_x_position'),
                 lambda e: e['label_x_position'] // 2, 16),
    'dSpr-Ori': ('dsprites', dict(label_rule='dsprites_orientation'),
                 lambda e: 2 * e['label_orientation'] // 5, 16),
    'sNORB-Azim': ('smallnorb', dict(label_key='label_azimuth'),
                   lambda e: e['label_azimuth'], 18),
    'sNORB-Elev': ('smallnorb', dict(label_key='label_elevation'),
                   lambda e: e['label_elevation'], 9),
    'raw x position': ('dsprites', dict(label_key='label_x_position'),
                       lambda e: e['label_x_position'], 32),
}


@pytest.mark.parametrize('task', TASKS)
def test_labels_of_true_records(prepared, task):
  spec, settings, truth, num_classes = TASKS[task]
  directory, examples = prepared(spec, 24 if spec == 'clevr' else COUNT)
  source = open_source(DataSection(spec, directory, **settings), 'train')
  assert source.num_classes == len(source.class_names) == num_classes
  assert len(set(source.class_names)) == num_classes
  found = [source.read(i)[1] for i in range(source.num_examples)]
  assert found == [int(truth(e)) for e in examples]
  assert len(set(found)) > 2


@pytest.mark.parametrize('rule, thresholds, last', [
    ('clevr_distance', (0, 8, 8.5, 9, 9.5, 10), 100),
    ('kitti_distance', (-100, 8, 20, 999), 1000)])
def test_thresholds_belong_to_the_lower_class(rule, thresholds, last):
  label = labels.LABEL_RULES[rule].label
  for depth in around(*thresholds[1:]) + [np.float32(last)]:
    row = np.float32([[0, 0, depth]])
    record = {'objects/pixel_coords': row, 'objects/location': row,
              'objects/type': np.array([0])}
    below = [i for i, t in enumerate(thresholds) if np.float32(t) < depth]
    assert label(record) == max(below), depth


def test_class_names_tell_the_raw_values():
  rules = labels.LABEL_RULES
  x = rules['dsprites_x_position'].class_names
  assert (x[0], x[-1], len(x)) == ('x position 0-1', 'x position 30-31', 16)
  orientations = rules['dsprites_orientation'].class_names
  # floor(k / 2.5) is 0 for k = 0, 1, 2; 1 for 3, 4; 2 for 5, 6, 7; ...
  assert orientations[:3] == tuple(f'orientation {k}' for k in ('0-2', '3-4', '5-7'))
  assert orientations[15] == 'orientation 38-39'
  assert math.floor(37 / 2.5) == 14


@pytest.mark.parametrize('name, key, number, expected', [
    # 18 azimuths 20 degrees apart, elevations from 30 to 70 degrees.
    ('smallnorb', 'label_azimuth', 17, 'azimuth 340°'),
    ('smallnorb', 'label_elevation', 0, 'elevation 30°'),
    ('smallnorb', 'label_elevation', 8, 'elevation 70°'),
    ('smallnorb', 'label_lighting', 5, '5'),
    ('patch_camelyon:2.*.*', 'label', 1, 'tumour in the centre'),
    ('diabetic_retinopathy_detection/btgraham-300:3.*.*', 'label', 4, 'proliferative'),
    ('dtd', 'label', 0, 'banded'),
])
def test_names_of_classes_that_are_numbers_in_tfds(
    name, key, number, expected, tmp_path):
  tiny_tfds.write_metadata(name, tmp_path, {'train': 10})
  data = DataSection(name=name, dir=str(tmp_path), label_key=key)
  source = open_source(data, 'train')
  assert source.class_names[number] == expected
  builder = tfds.builder(name, data_dir=str(tmp_path))
  assert source.num_classes == builder.info.features[key].num_classes


def parity_of_colours():
  """A rule as a user would write it: whether the number of colours is even."""
  return labels.LabelRule(
      ('even', 'odd'), ('objects/color',),
      lambda record: len(set(record['objects/color'].tolist())) % 2)


def test_rule_of_the_user(prepared):
  directory, examples = prepared('clevr', 24)
  data = DataSection('clevr', directory, label_rule=f'{__name__}:parity_of_colours')
  source = open_source(data, 'train')
  assert source.class_names == ['even', 'odd']
  assert [source.read(i)[1] for i in range(10)] == [
      len(set(np.asarray(e['objects']['color']).tolist())) % 2 for e in examples[:10]]


@pytest.mark.parametrize('change, told', [
    (dict(label_rule='clever_count'), "Did you mean 'clevr_count'"),
    (dict(label_rule='kitti_distance'), 'reads objects/type, objects/location'),
    (dict(label_rule='nowhere:rule'), 'cannot be imported'),
    (dict(label_rule='math:pi'), 'is a float, expected a'),
    (dict(label_key='value_scale'), 'does not name class labels'),
    (dict(label_key='labels'), 'Its features are: '),
])
def test_mistakes_are_explained(prepared, file_format, change, told):
  directory, _ = prepared('dsprites')
  with pytest.raises(UserError) as caught:
    open_source(dataclasses.replace(DataSection('dsprites', directory), **change),
                'train')
  assert told in str(caught.value)


def test_rule_for_a_folder(folder):
  with pytest.raises(UserError, match='name of the folder'):
    open_source(DataSection('folder', str(folder), label_rule='clevr_count'), 'train')


class Ragged(tfds.core.GeneratorBasedBuilder):
  """Sequences of sequences, as TFDS stores them."""

  VERSION = tfds.core.Version('1.0.0')
  ROWS = [[[1, 2, 3], [], [4]], [], [[5]], [[], []]]

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict({
        'image': F.Image(shape=(4, 4, 1)),
        'words': F.Sequence(F.Sequence(F.Sequence(F.Tensor(shape=(2,),
                                                           dtype=np.float32)))),
        'number': np.int64,
    }))

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i, rows in enumerate(self.ROWS):
      words = [[[np.float32([n, -n])] * n for n in row] for row in rows]
      yield i, {'image': np.zeros((4, 4, 1), np.uint8), 'words': words, 'number': i}


def sum_of_words():
  def label(record):
    flat = [word for row in record['words'] for words in row for word in words]
    assert all(word.shape == (2,) for word in flat)
    shape = tuple(len(row) for row in record['words'])
    truth = tuple(len(row) for row in Ragged.ROWS[int(record['number'])])
    assert shape == truth
    return int(sum(word[0] for word in flat))
  return labels.LabelRule(tuple(map(str, range(99))), ('words', 'number'), label)


def test_sequences_of_sequences(tmp_path, file_format):
  builder = Ragged(data_dir=str(tmp_path), file_format=file_format)
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      compute_stats=tfds.download.ComputeStatsMode.SKIP))
  source = open_source(DataSection(
      'ragged', str(tmp_path), label_rule=f'{__name__}:sum_of_words'), 'train')
  # Sum of n * n over all n, in whatever order TFDS stored the records.
  assert sorted(source.read(i)[1] for i in range(4)) == [0, 0, 25, 30]
