"""Which settings are in the compiled programs, and that programs are equal so."""

import dataclasses
import functools

import jax
import pytest

from vit_jax import config as config_lib
from vit_jax.config.sections import Config, EvaluatorSection, PreprocessSection
from vit_jax.config.settings import all_settings
from vit_jax.evaluators.features import FeatureStep
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError
from vit_jax.training.programs import EvalStep, InitStep, Setup, TrainStep

TINY = config_lib.from_dict(dict(
    total_steps=10, batch_size=16, ema_decay=0.9, accum_steps=2,
    model=dict(variant='', patch_size=(4, 4), width=16, depth=1, mlp_dim=32,
               num_heads=2, pool='gap', dropout=0.1),
    data=dict(image_size=(8, 8)), mixup=dict(alpha=0.2),
    optimizer=dict(name='adamw', weight_decay=0.1)))
SETTINGS = all_settings(Config)
# A rate is an argument of the step, so that only its absence is compiled.
RATES = {'optimizer.weight_decay': 0.0}


def _other(key):
  """Another value of the setting's type, possible or not."""
  value = config_lib.get(TINY, key)
  if key == 'evaluators':
    return (EvaluatorSection(name='few', kind='fewshot'),)
  if isinstance(value, bool):
    return not value
  if isinstance(value, tuple):
    return (*value, 1)
  return value + {int: 1, float: 0.25, str: 'x'}[type(value)]


def _mesh():
  return mesh_lib.create(TINY.mesh)


def _programs(config):
  setup = Setup(config, _mesh(), num_classes=10, trains=True)
  place = PreprocessSection(), (8, 8, 3), ()
  return {'init': InitStep(setup), 'train': TrainStep(setup, *place),
          'eval': EvalStep(setup, *place, batch_size=16),
          'features': FeatureStep(setup, *place, batch_size=16, layer='pre_logits')}


@functools.cache
def _text(name, config):
  return _programs(config)[name].lower().as_text()


def _reduced(config):
  return _programs(config_lib.compiled(config))


@pytest.mark.parametrize('key', SETTINGS)
def test_programs_are_equal_where_their_settings_are(key):
  other = config_lib.replace(TINY, key, _other(key))
  equal = _reduced(other) == _reduced(TINY)
  assert equal == (SETTINGS[key].compiled is False or key in RATES)
  if key in RATES:
    assert _reduced(config_lib.replace(TINY, key, RATES[key])) != _reduced(TINY)


@pytest.mark.parametrize('name', ['init', 'train', 'eval', 'features'])
def test_no_program_reads_a_setting_that_is_not_compiled(name):
  """All of them changed at once, and none of them reduced to its default."""
  other = TINY
  for key, known in SETTINGS.items():
    if known.compiled is False or key in RATES:
      other = config_lib.replace(other, key, _other(key))
  assert other.schedule != TINY.schedule and other.data.train != TINY.data.train
  assert _text(name, other) == _text(name, TINY)
  assert _text(name, config_lib.compiled(other)) == _text(name, TINY)


def test_programs_do_read_the_others():
  for key, value in (('ema_decay', 0.5), ('loss.label_smoothing', 0.1),
                     ('optimizer.weight_decay', 0.0), ('accum_steps', 1)):
    assert _text('train', config_lib.replace(TINY, key, value)) != _text('train', TINY)
  for key, value in (('model.gelu', 'exact'), ('data.value_range', (0.0, 1.0))):
    other = config_lib.replace(TINY, key, value)
    for name in ('train', 'eval', 'features'):
      assert _text(name, other) != _text(name, TINY)


@pytest.mark.parametrize('changes', [
    dict(remaining=PreprocessSection(flip=True)), dict(stored_shape=(9, 9, 3)),
    dict(label_shape=(2,)), dict(batch_size=8), dict(layer='block_00'),
    dict(setup=Setup(TINY, _mesh(), 11, True)),
    dict(setup=Setup(TINY, _mesh(), 10, False)),
    dict(setup=Setup(TINY, mesh_lib.create(TINY.mesh, jax.devices()[:4]), 10, True))])
def test_programs_of_other_data_or_devices_differ(changes):
  for program in _programs(TINY).values():
    names = {field.name for field in dataclasses.fields(program)}
    if names >= changes.keys():
      assert dataclasses.replace(program, **changes) != program


def test_the_setup_is_traced_once():
  setup = Setup(TINY, _mesh(), 10, True).build()
  assert setup.abstract_state is setup.abstract_state and setup.model is setup.model
  assert setup == Setup(TINY, _mesh(), 10, True)


def test_names_that_an_objective_promises_and_does_not_return(tmp_path, monkeypatch):
  (tmp_path / 'half_done.py').write_text('''
from vit_jax.objectives.classification import Classification

class Shows(Classification):
  shown = {'loss': '.1f', 'margin': '.2f'}

class Counts(Classification):
  def eval_step(self, params, batch):
    return {'loss': batch['mask'].sum()}
''')
  monkeypatch.syspath_prepend(tmp_path)
  programs = _programs(config_lib.replace(TINY, 'objective', 'half_done:Shows'))
  with pytest.raises(UserError, match=r"loss\(\) of .*half_done:Shows' has to return "
                     'margin; it returns accuracy, grad_norm, loss, param_norm'):
    programs['train'].lower()
  programs = _programs(config_lib.replace(TINY, 'objective', 'half_done:Counts'))
  with pytest.raises(UserError, match=r'eval_step\(\) .* return seen; it returns loss'):
    programs['eval'].lower()
