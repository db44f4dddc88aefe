"""All 19 tasks train and are evaluated on tiny data in the format of their builders."""

import pathlib

import numpy as np
import pytest
import task_run

from vit_jax.sweep import vtab
from vit_jax.training.reuse import Reuse

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def reuse() -> Reuse:
  return Reuse()


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return tmp_path_factory.mktemp('vtab')


@pytest.mark.parametrize('name', vtab.TASKS)
def test_a_task_trains_and_is_evaluated(
    name: str, data_dir: pathlib.Path, tmp_path: pathlib.Path, reuse: Reuse) -> None:
  _check_run(task_run.measure(name, data_dir, tmp_path, reuse), name)


def test_lightweight_preset(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, reuse: Reuse) -> None:
  _check_run(task_run.measure('cifar100', data_dir, tmp_path, reuse, 'lightweight'),
             'cifar100')


def _check_run(run: task_run.Measured, name: str) -> None:
  assert run.classes == vtab.TASKS[name].num_classes
  # The head starts at zero: every class is as likely as any other.
  assert len(run.losses) == 3
  np.testing.assert_allclose(run.losses[0], np.log(run.classes), rtol=1e-5)
  np.testing.assert_array_equal(run.train_labels, run.expected_train_labels)
  np.testing.assert_array_equal(run.test_labels, run.expected_test_labels)
  assert 0 <= run.test_labels.min() and run.test_labels.max() < run.classes
  # The step has changed the head, and every test example counts once. Images that the
  # host resizes are rounded to 8 bits.
  assert abs(run.loss - np.log(run.classes)) > 1e-6
  np.testing.assert_allclose(run.loss, run.expected_loss, rtol=2e-4)
  assert run.accuracy * len(run.test_labels) == pytest.approx(
      round(run.accuracy * len(run.test_labels)), abs=1e-6)
  # Two classes that are as good as equal may change places by that rounding.
  assert abs(run.accuracy - run.expected_accuracy) * len(run.test_labels) < 1.5
