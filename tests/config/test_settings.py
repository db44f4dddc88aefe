"""Declarations of settings: complete, consistent, and what is derived from them."""

import dataclasses

import pytest

from vit_jax import config as config_lib
from vit_jax.config import tuned
from vit_jax.config.sections import Config
from vit_jax.config.settings import all_settings, at_least, section, setting
from vit_jax.runtime.errors import UserError

SETTINGS = all_settings(Config)


@pytest.mark.parametrize('key', SETTINGS)
def test_every_default_is_possible_and_explained(key):
  known, default = SETTINGS[key], config_lib.get(Config(), key)
  assert known.help.endswith(('.', ')')) and known.help[0] == known.help[0].upper()
  if known.choices:
    assert default in known.choices
  if known.rule and not (known.size and default == ()):
    assert known.rule.allows(default)
  assert known.tuning in ('', 'tunable', 'made_for')


def test_sections_hand_down_what_their_settings_do_not_say():
  @dataclasses.dataclass(frozen=True)
  class Inner:
    plain: int = setting(0, 'Plain.')
    own: int = setting(0, 'Own.', compiled=True)

  @dataclasses.dataclass(frozen=True)
  class Outer:
    inner: Inner = section(Inner(), 'Inner.', compiled=False, resume=False)
    last: int = setting(1, 'Last.', rule=at_least(1))

  found = all_settings(Outer)
  assert list(found) == ['inner.plain', 'inner.own', 'last']
  assert (found['inner.plain'].compiled, found['inner.own'].compiled) == (False, True)
  assert not found['inner.plain'].resume and found['last'].resume


def test_what_a_new_setting_is_unless_it_says_otherwise():
  """The careful side: it must agree on resume, and programs depend on it."""
  known = setting(0, 'New.').metadata
  assert known == {'help': 'New.'}
  assert all_settings(dataclasses.make_dataclass(
      'New', [('new', int, setting(0, 'New.'))]))['new'].compiled is True


def test_roles():
  """Against a list written by hand from what the settings do."""
  free = {key for key, known in SETTINGS.items() if not known.resume}
  assert free == {
      'total_steps', 'total_epochs', 'log_every', 'eval_every', 'eval_batch_size',
      'keep_host_memory', 'xla_options', 'tuned', 'evaluators',
      *(key for key in SETTINGS if key.split('.')[0] in (
          'mesh', 'checkpoint', 'profile'))}
  fixed_in_sweeps = {key for key in free if SETTINGS[key].sweep}
  assert fixed_in_sweeps == {'total_steps', 'total_epochs', 'evaluators'}
  assert set(tuned.SETTINGS) == {
      'model.scan', 'model.remat', 'model.projection', 'mesh.data', 'mesh.fsdp',
      'accum_steps', 'xla_options'}
  assert set(tuned.MADE_FOR) == {
      'model.variant', 'model.width', 'model.depth', 'model.mlp_dim',
      'data.image_size', 'batch_size'}


def test_programs_do_not_depend_on():
  config = config_lib.from_dict({
      'seed': 3, 'total_steps': 7, 'optimizer': {
          'name': 'adamw', 'learning_rate': 0.5, 'weight_decay': 0.3},
      'data': {'name': 'cifar10', 'image_size': (8, 8)}})
  assert config_lib.compiled(config) == config_lib.from_dict({
      'optimizer': {'name': 'adamw', 'weight_decay': 1.0},
      'data': {'image_size': (8, 8)}})


@pytest.mark.parametrize('values, message', [
    ({'optimizer': {'name': 'sgd', 'b2': 0.5}}, 'config.optimizer.b2 is 0.5, but '
     "config.optimizer.name='sgd' does not read it"),
    ({'data': {'train': {'pad': -1}}}, 'config.data.train.pad is -1; it must be at'),
    ({'data': {'eval': {'method': 'cubic'}}}, "method is 'cubic'.*Did you mean"),
    ({'evaluators': ({'name': 'x', 'k': 0},)}, r'evaluators\[0\].k is 0; it must'),
])
def test_impossible_values(values, message):
  config = config_lib.from_dict({'total_steps': 1, **values})
  with pytest.raises(UserError, match=message):
    config_lib.check(config)
