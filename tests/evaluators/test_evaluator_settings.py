"""`config.evaluators`: from files, overrides and JSON, and messages for wrong ones."""

import json

import pytest

from vit_jax import config as config_lib
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import Config, DataSection, EvaluatorSection
from vit_jax.runtime.errors import UserError
from vit_jax.training.trained_run import select

FEW = {'name': 'few', 'kind': 'fewshot'}


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'with_evaluators.py'
  path.write_text(
      'from ml_collections import ConfigDict\n'
      'def get_config():\n'
      '  return ConfigDict(dict(total_steps=1, evaluators=(\n'
      "      dict(name='few', kind='fewshot', shots=(1, 2)),\n"
      "      dict(name='real', data='imagenet2012_real', label_key='real_label',\n"
      "           max_labels=12, test_split='validation'))))\n")
  return str(path)


def _check(*evaluators, **values):
  return config_lib.check(config_lib.from_dict(
      {'total_steps': 1, 'evaluators': evaluators, **values}))


def test_a_file_needs_only_what_differs_from_the_defaults(config_file):
  config = config_lib.load(config_file)
  assert config.evaluators == (
      EvaluatorSection(name='few', kind='fewshot', shots=(1, 2)),
      EvaluatorSection(name='real', data='imagenet2012_real', label_key='real_label',
                       max_labels=12, test_split='validation'))


def test_json_round_trip(config_file):
  config = config_lib.load(config_file)
  values = json.loads(json.dumps(config_lib.to_dict(config)))
  assert config_lib.from_dict(values) == config


def test_overrides_reach_into_the_tuple(config_file):
  config = config_lib.load(config_file, [
      '--config.evaluators[0].shots=(5, 10)', '--config.evaluators[0].temperature=1',
      '--config.evaluators[1].name=v2', '--config.batch_size=8'])
  few, real = config.evaluators
  assert (few.shots, few.temperature) == ((5, 10), 1.0)
  assert (real.name, real.max_labels, config.batch_size) == ('v2', 12, 8)


def test_the_whole_tuple_as_an_override(config_file):
  config = config_lib.load(
      config_file, ["--config.evaluators=({'name': 'nn', 'kind': 'knn'},)"])
  assert config.evaluators == (EvaluatorSection(name='nn', kind='knn'),)
  assert config_lib.load(config_file, ['--config.evaluators=()']).evaluators == ()


def test_evaluations_may_change_when_a_run_goes_on(config_file):
  old = config_lib.load(config_file)
  new = config_lib.load(config_file, ['--config.evaluators[0].shots=(9,)'])
  assert old != new and config_lib.differences(old, new) == []


@pytest.mark.parametrize('override, message', [
    ('--config.evaluators[0].shot=(1,)', r'mean config.evaluators\[0\].shots\?'),
    ('--config.evaluators[7].shots=(1,)', r'Unknown config key .*\[7\]'),
    ('--config.evaluators[0].shots=(0,)', 'whole numbers above 0'),
    ('--config.evaluators[0].shots=()', r'such as \(1, 5\)'),
    ('--config.evaluators[0].l2=(0,)', 'numbers above 0'),
    ('--config.evaluators[0].l2=(1.0,8.0)', 'one strength unless select_l2'),
    ('--config.evaluators[0].seeds=0', 'above 0'),
    ('--config.evaluators[0].name=real', 'taken'),
    ('--config.evaluators[0].name=test', 'taken'),
    ('--config.evaluators[0].name=a/b', 'letters, digits'),
    ("--config.evaluators=({'nam': 'x'},)", r'mean config.evaluators\[0\].name'),
    ("--config.evaluators=({'name': 3},)", r'evaluators\[0\].name takes .*str'),
    ('--config.evaluators=(3,)', 'takes a dict'),
])
def test_wrong_settings_say_what_is_right(config_file, override, message):
  with pytest.raises(UserError, match=message):
    config_lib.load(config_file, [override])


def test_a_section_in_place_of_the_tuple():
  with pytest.raises(UserError, match='config.evaluators'):
    config_lib.from_dict({'evaluators': FEW})


def test_an_evaluator_needs_a_test_split():
  data = {'test_split': '', 'val_split': ''}
  with pytest.raises(UserError, match='test_split is not set'):
    _check(FEW, data=data)
  own = _check({**FEW, 'test_split': 'x'}, data=data)
  assert evaluator_settings.data_section(own, own.evaluators[0]).test_split == 'x'


def test_data_of_an_evaluator():
  run = Config(data=DataSection(
      name='dsprites', dir='/data', train_split='train[:800]', test_split='train[900:]',
      label_rule='dsprites_location', pixel_factor=255, image_size=(32, 32)))
  same = evaluator_settings.data_section(run, EvaluatorSection(test_split='train[:5]'))
  assert (same.name, same.train_split, same.test_split, same.label_rule) == (
      'dsprites', 'train[:800]', 'train[:5]', 'dsprites_location')
  # Nothing of the run's data set may be applied to another one.
  other = evaluator_settings.data_section(run, EvaluatorSection(data='cifar10'))
  assert (other.name, other.dir, other.train_split, other.test_split) == (
      'cifar10', '/data', 'train', 'test')
  assert (other.label_rule, other.pixel_factor, other.image_size) == ('', 1, (32, 32))
  assert evaluator_settings.data_section(run, EvaluatorSection(data='folder')).dir == ''


def test_one_more_comes_first_and_has_a_name_of_its_own():
  config = _check({'name': 'knn', 'kind': 'knn'})
  more, name = evaluator_settings.with_one_more(config, 'knn', 'cifar10')
  assert name != 'knn' and more.evaluators[0].name == name
  assert more.evaluators[0].data == 'cifar10' and more.evaluators[1:] == (
      config.evaluators)
  config_lib.check(more)


def test_one_more_of_the_users_own_kind():
  _, name = evaluator_settings.with_one_more(_check(), 'my_module:Margin', '')
  assert name == 'Margin'


def test_all_of_a_run():
  config = _check(FEW, data={'val_split': 'train[:9]', 'test_split': 'test'})
  found = evaluator_settings.of_run(config)
  assert [(s.name, s.kind) for s in found] == [
      ('val', 'classify'), ('test', 'classify'), ('few', 'fewshot')]
  assert [evaluator_settings.key_of(config, section) for section in found] == [
      'data.val_split', 'data.test_split', 'evaluators[0]']
  assert [evaluator_settings.data_section(config, section).test_split
          for section in found] == ['train[:9]', 'test', 'test']


def test_unknown_names():
  config = _check(FEW)
  assert select(config, ['few']) == config.evaluators
  with pytest.raises(UserError, match="no evaluator 'fow'; the run has few"):
    select(config, ['fow'])
