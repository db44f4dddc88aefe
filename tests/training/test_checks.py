"""What a run needs beside settings that are possible by themselves."""

import os
import subprocess
import sys

import pytest

from vit_jax import config as config_lib
from vit_jax.runtime.errors import UserError
from vit_jax.training.checks import check_measurements, check_run
from vit_jax.training.debug_form import debug_form

FEW = {'name': 'few', 'kind': 'fewshot'}
OWN = 'own_classes:'


@pytest.fixture
def own_classes(tmp_path, monkeypatch):
  """A module of a user's, `own_classes`."""
  (tmp_path / 'own_classes.py').write_text('''
from vit_jax.objectives.classification import Classification
from vit_jax.evaluators.fewshot import FewShot

class OneLabel(Classification):
  labels = ('class',)

class NoLabel(Classification):
  labels = ('none',)
  metrics = {'distance': 'min'}

class Unfinished:
  metrics = {}

class Mean(FewShot):
  @staticmethod
  def metrics(config, section):
    return {'margin': 'max'}

number = 3
''')
  monkeypatch.syspath_prepend(tmp_path)


def _config(*evaluators, **values):
  return config_lib.check(config_lib.from_dict(
      {'total_steps': 1, 'evaluators': evaluators, **values}))


@pytest.mark.parametrize('settings, message', [
    ({'checkpoint.best_metric': 'test/acc'}, 'test/accuracy, test/loss'),
    ({'checkpoint.best_metric': 'test/loss'}, 'multiple of config.eval_every'),
    ({'evaluators': ({'name': 'few', 'kind': 'few'},)}, 'Did you mean'),
    ({'evaluators': ({**FEW, 'max_labels': 3},)}, 'one label per image'),
    ({'checkpoint.best_metric': 'val/loss', 'data.test_split': ''},
     'nothing, as it has neither val nor test split'),
    ({'objective': 'clasification'}, "Did you mean 'classification'"),
    ({'objective': 'no_such_module:Name'}, "No module named 'no_such_module'"),
    ({'objective': 'own_classes:Name'}, "has no attribute 'Name'.*package.module:name"),
    ({'objective': 'own_classes:'}, 'cannot be imported'),
    ({'objective': 'own_classes:number'}, 'is 3, which lacks shown, metrics'),
    ({'objective': 'own_classes:Unfinished'},
     'lacks shown, labels, check, num_outputs, prepare, loss, eval_step, summarise;'),
    ({'objective': 'own_classes:Mean'}, 'lacks shown'),
    ({'objective': 'own_classes:OneLabel', 'data.max_labels': 2},
     'max_labels is 2, .* learns from one label per image. Set it to 0'),
    ({'evaluators': ({'name': 'own', 'kind': 'own_classes:NoLabel'},)},
     r"evaluators\[0\].kind='own_classes:NoLabel' .*lacks on_features, run"),
])
def test_mistakes_say_what_is_right(own_classes, settings, message):
  config = config_lib.with_values(_config(), settings)
  for check in (check_run, check_measurements, debug_form):
    with pytest.raises(UserError, match=message):
      check(config)


@pytest.mark.parametrize('settings, message', [
    ({'model.variant': 'X/16'}, "variant 'X/16'"),
    ({'optimizer.name': 'sdg'}, "Did you mean 'sgd'"),
    ({'schedule.warmup_steps': 2}, 'do not fit a run of 1 steps'),
    ({'loss.label_smoothing': 1.0}, 'label_smoothing is 1.0'),
])
def test_model_and_optimization_are_checked(settings, message):
  config = config_lib.with_values(_config(), settings)
  assert check_measurements(config) == config
  with pytest.raises(UserError, match=message):
    check_run(config)


@pytest.mark.parametrize('metric', ['few/5shot', 'nn/accuracy', 'own/loss'])
def test_best_metric_may_be_an_evaluators(metric):
  evaluators = (FEW, {'name': 'nn', 'kind': 'knn'}, {'name': 'own', 'every': 2})
  checkpoint = {'best_metric': metric, 'every': 10}
  check_run(_config(*evaluators, eval_every=5, checkpoint=checkpoint))
  with pytest.raises(UserError, match='few/1shot.*nn/accuracy'):
    check_run(_config(
        *evaluators, eval_every=5, checkpoint={'best_metric': 'few/2shot'}))


def test_best_metric_is_measured_at_every_checkpoint():
  evaluator = {**FEW, 'every': 2}
  with pytest.raises(UserError, match='which is 5 x 2 of the evaluator'):
    check_run(_config(
        evaluator, eval_every=5, checkpoint={'best_metric': 'few/1shot', 'every': 5}))


def test_best_metric_may_be_that_of_the_users_own_objective(own_classes):
  config = _config(
      {'name': 'mean', 'kind': 'own_classes:Mean'}, eval_every=5,
      objective='own_classes:NoLabel', checkpoint={'best_metric': 'test/distance'})
  # It looks at no labels, whatever these are.
  check_run(config_lib.replace(config, 'data.max_labels', 0))
  with pytest.raises(UserError, match='measures test/distance, mean/margin.'):
    check_run(config_lib.replace(config, 'checkpoint.best_metric', 'test/accuracy'))


def test_no_device_is_touched():
  """Several processes have yet to find each other when their settings are checked."""
  code = ('import jax\n'
          'from vit_jax.config import Config\n'
          'from vit_jax.training.checks import check_run\n'
          'check_run(Config(total_steps=1))\n'
          # Impossible once there is a backend.
          'jax.config.update("jax_num_cpu_devices", 3)\n'
          'assert jax.device_count() == 3')
  subprocess.run([sys.executable, '-c', code], check=True, timeout=300,
                 env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''})
