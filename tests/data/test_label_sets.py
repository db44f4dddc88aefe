"""Images with a set of labels each: ImageNet-ReaL in its true format."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_data import picture, write_tiny

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import open_input, open_source
from vit_jax.data.labels import LabelRule
from vit_jax.runtime.errors import UserError
from vit_jax.training.loop import train

SETS = [[3], [], [5, 999, 0], [7, 8], [], [1], [2, 4], [6], [11], [12, 3, 4]]


def real_example(split, i):
  del split
  return {'file_name': f'{i}.jpg', 'image': picture(i), 'original_label': i,
          'real_label': SETS[i]}


@pytest.fixture(scope='module', params=['tfrecord', 'array_record'])
def real(request, tmp_path_factory):
  directory = write_tiny(
      'imagenet2012_real', tmp_path_factory.mktemp('real'),
      {'validation': len(SETS)}, real_example, request.param)
  return DataSection('imagenet2012_real', directory, image_size=(24, 24),
                     label_key='real_label', max_labels=3)


def truth(data):
  builder = tfds.builder(data.name, data_dir=data.dir)
  try:
    examples = list(builder.as_data_source(split='validation'))
  except NotImplementedError:
    examples = list(builder.as_dataset(split='validation').as_numpy_iterator())
  return [set(np.asarray(e['real_label'], int).tolist()) for e in examples]


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_sets_as_tfds_reads_them(real, cache):
  data_input = open_input(
      dataclasses.replace(real, cache=cache), 'validation', train=False)
  assert data_input.label_shape == (3,) and data_input.num_classes == 1000
  batches = list(data_input.start().eval_batches(4, np.arange(4)))
  labels = np.concatenate([b['label'] for b in batches])
  mask = np.concatenate([b['mask'] for b in batches])
  assert labels.shape == (12, 3) and labels.dtype == np.int32 and mask.sum() == 10
  assert [set(row[row >= 0].tolist()) for row in labels[mask]] == truth(real)
  assert (labels[~mask] == -1).all()
  # -1 only fills up.
  assert (np.diff((labels < 0).astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_training_batches(real, cache):
  section = PreprocessSection()
  data = dataclasses.replace(real, cache=cache, train=section)
  batches = open_input(data, 'validation', train=True).start().train_batches(
      0, 5, np.arange(5))
  rows = np.concatenate([next(batches)['label'] for _ in range(2)])
  found = sorted(tuple(sorted(row[row >= 0].tolist())) for row in rows)
  assert found == sorted(tuple(sorted(s)) for s in SETS)


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_more_labels_than_there_is_room_for(real, cache):
  data = dataclasses.replace(real, max_labels=2, cache=cache, max_bad_records=9)
  data_input = open_input(data, 'validation', train=False)
  # Not one of the records that may be skipped.
  with pytest.raises(UserError, match='has 3 labels.*max_labels=2; raise'):
    list(data_input.start().eval_batches(4, np.arange(4)))


def test_too_many_labels_are_found_without_decoding(real):
  source = open_source(dataclasses.replace(real, max_labels=2), 'validation')
  with pytest.raises(UserError, match='has 3 labels.*max_labels=2; raise'):
    source.check_labels(range(len(SETS)))
  open_source(real, 'validation').check_labels(range(len(SETS)))


def test_sets_need_max_labels(real):
  with pytest.raises(UserError, match='any number of classes.*config.data.max_labels'):
    open_source(dataclasses.replace(real, max_labels=0), 'validation')


def test_one_label_is_a_set_of_one(real, folder):
  one = dataclasses.replace(real, label_key='original_label', max_labels=2)
  read = [open_source(one, 'validation').read(i)[1] for i in range(10)]
  assert sorted(row.tolist() for row in read) == [[i, -1] for i in range(10)]
  data = DataSection('folder', str(folder), max_labels=2)
  assert open_source(data, 'train').read(0)[1].tolist() in ([0, -1], [1, -1])


def small_or_even():
  def label(record):
    number = int(record['original_label'])
    return ([0] if number < 5 else []) + ([1] if number % 2 == 0 else [])
  return LabelRule(('small', 'even'), ('original_label',), label)


def test_rule_that_gives_sets(real):
  rule = f'{__name__}:small_or_even'
  source = open_source(dataclasses.replace(real, label_rule=rule), 'validation')
  found = sorted(source.read(i)[1].tolist() for i in range(10))
  assert found == sorted(
      [[0, 1, -1]] * 3 + [[0, -1, -1]] * 2 + [[1, -1, -1]] * 2 + [[-1] * 3] * 3)
  single = open_source(
      dataclasses.replace(real, label_rule=rule, max_labels=0), 'validation')
  with pytest.raises(UserError, match='expected one; set config.data.max_labels'):
    [single.read(i) for i in range(10)]


@pytest.mark.slow
def test_a_run_on_sets(real, tmp_path):
  """Trains and evaluates; images without labels are left out."""
  data = dataclasses.asdict(dataclasses.replace(
      real, train_split='validation', test_split='validation', image_size=(8, 8)))
  measured = train(dict(
      total_steps=2, batch_size=8, eval_batch_size=8, data=data,
      model=dict(variant='', patch_size=(4, 4), width=16, depth=1, mlp_dim=16,
                 num_heads=2),
      loss=dict(name='sigmoid', label_smoothing=0.1), mixup=dict(alpha=0.2)),
      str(tmp_path))
  hits = measured['test/accuracy'] * (len(SETS) - SETS.count([]))
  assert hits == pytest.approx(round(hits)) and measured['test/loss'] > 0
  rows = [json.loads(line)
          for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert any('train/accuracy' in row for row in rows)


@pytest.mark.slow
def test_a_training_finds_too_many_labels_at_its_start(real, tmp_path):
  data = dataclasses.asdict(dataclasses.replace(
      real, train_split='validation', test_split='', image_size=(8, 8),
      label_key='original_label', max_labels=0))
  with pytest.raises(UserError, match='has 3 labels.*max_labels=2; raise'):
    train(dict(
        total_steps=2, batch_size=8, eval_batch_size=8, data=data,
        model=dict(variant='', patch_size=(4, 4), width=16, depth=1, mlp_dim=16,
                   num_heads=2),
        evaluators=(dict(name='real', test_split='validation', label_key='real_label',
                         max_labels=2),)), str(tmp_path))
  # Before the first step.
  assert not (tmp_path / 'metrics.jsonl').read_text()
