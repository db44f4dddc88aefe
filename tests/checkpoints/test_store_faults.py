"""Checkpoints that were damaged, and saves that fail."""

import os
import random
import resource
import shutil

import fault_runs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.checkpoints import integrity, resume
from vit_jax.checkpoints.store import SaveFailed, Store
from vit_jax.config.sections import CheckpointSection, Config
from vit_jax.runtime.errors import UserError
from vit_jax.training.state import TrainState

SECTION = CheckpointSection(keep=3)


def _state(step):
  params = {'a': jax.random.normal(jax.random.key(step), (200, 200))}
  return TrainState(jnp.int32(step), params, {'momentum': jnp.ones(50)})


def _abstract():
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _state(0))


def _save(workdir, steps):
  store = Store(workdir, SECTION)
  for step in steps:
    store.save(_state(step), Config())
  store.wait()
  store.close()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('saved')
  _save(folder, (1, 2, 3))
  return folder


@pytest.fixture
def copy(saved, tmp_path):
  shutil.copytree(saved, tmp_path / 'run')
  return tmp_path / 'run'


def _files(workdir, step):
  folder = workdir / f'checkpoints/{step}/state'
  return sorted(path for path in folder.rglob('*')
                if path.is_file() and path.name != 'commit_success.txt')


def test_whole_checkpoints(saved):
  store = Store(saved, SECTION, read_only=True)
  assert [store.damage(step) for step in (1, 2, 3)] == ['', '', '']
  store.close()
  assert resume.find(saved, SECTION) == 3


def test_no_checkpoint(tmp_path):
  assert resume.find(tmp_path, SECTION) == 0


@pytest.mark.parametrize('kind', ['flip', 'truncate', 'delete'])
def test_damage_of_any_file_is_detected(copy, kind):
  rng = random.Random(0)
  for path in _files(copy, 3):
    before = path.read_bytes()
    fault_runs.damage(path, kind, rng)
    problem = integrity.damage(copy / 'checkpoints/3/state')
    assert problem, f'{kind} of {path} was not detected'
    if path.name != 'checksums.json':
      assert str(path) in problem
    path.write_bytes(before)
  assert not integrity.damage(copy / 'checkpoints/3/state')


def test_every_share_is_checked_by_somebody(copy):
  state = copy / 'checkpoints/3/state'
  for path in _files(copy, 3):
    if path.name == 'checksums.json':
      continue
    before = path.read_bytes()
    fault_runs.damage(path, 'truncate')
    assert sum(bool(integrity.damage(state, (i, 3))) for i in range(3)) == 1
    path.write_bytes(before)


def test_orbax_alone_would_have_restored_the_flipped_bits(copy):
  # Why there are checksums at all: if this fails, Orbax has learned it.
  largest = max(_files(copy, 3), key=lambda path: path.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  store = Store(copy, SECTION, read_only=True)
  restored = store.restore(3, _abstract())
  store.close()
  assert not np.array_equal(restored.params['a'], _state(3).params['a'])


def test_damaged_ones_are_set_aside_loudly(copy, capsys):
  for step in (2, 3):
    fault_runs.damage(_files(copy, step)[-1], 'truncate')
  assert resume.find(copy, SECTION) == 1
  err = capsys.readouterr().err
  for step in (2, 3):
    assert f'checkpoints/{step} is damaged' in err
    assert f'set aside as {copy}/checkpoints/{step}.corrupt' in err
  assert 'going on from' in err and f'{copy}/checkpoints/1 instead' in err
  # Nothing is lost, and nothing is said twice.
  assert sorted(os.listdir(copy / 'checkpoints')) == ['1', '2.corrupt', '3.corrupt']
  assert resume.find(copy, SECTION) == 1
  assert capsys.readouterr().err == ''
  # The run goes on, and may damage the same step again.
  _save(copy, (2, 3))
  fault_runs.damage(_files(copy, 3)[-1], 'flip')
  assert resume.find(copy, SECTION) == 2
  assert (copy / 'checkpoints/3.corrupt1').is_dir()


def test_all_damaged_is_an_error_and_changes_nothing(copy):
  for step in (1, 2, 3):
    fault_runs.damage(_files(copy, step)[0], 'delete')
  with pytest.raises(UserError, match='damaged: 1, 2, 3. Nothing was changed'):
    resume.find(copy, SECTION)
  assert sorted(os.listdir(copy / 'checkpoints')) == ['1', '2', '3']


def test_parameters_of_a_damaged_checkpoint_are_refused(copy):
  fault_runs.damage(max(_files(copy, 3), key=lambda path: path.stat().st_size), 'flip')
  store = Store(copy, SECTION, read_only=True)
  with pytest.raises(UserError, match=r'3 is damaged: .*Use another one \(1, 2\)'):
    store.restore_params(3, _abstract().params, averaged=False)
  store.close()


def test_what_a_killed_process_was_writing_is_removed(copy):
  (copy / 'checkpoints/4.orbax-checkpoint-tmp').mkdir()
  _save(copy, (5,))
  assert sorted(os.listdir(copy / 'checkpoints')) == ['2', '3', '5']


@pytest.fixture
def file_limit():
  """Sets the size in bytes at which writes fail, whoever one is."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_failed_saves_keep_what_there_is_and_are_tried_again(
    copy, file_limit, capsys):
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
  store = Store(copy, SECTION)
  file_limit(50_000)
  for step in (4, 5):
    store.save(_state(step), Config())
    store.finish()
    assert store.steps() == [1, 2, 3]
    assert sorted(os.listdir(copy / 'checkpoints')) == ['1', '2', '3']
    err = capsys.readouterr().err
    assert f'checkpoint of step {step} could not be written' in err
    assert 'File too large' in err and 'tries again' in err
  file_limit(limit)
  store.save(_state(6), Config())
  store.wait()
  assert store.steps() == [2, 3, 6]
  assert capsys.readouterr().err == ''
  restored = store.restore(6, _abstract())
  np.testing.assert_array_equal(restored.params['a'], _state(6).params['a'])
  store.close()


def test_failed_last_save_is_an_error(copy, file_limit):
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
  store = Store(copy, SECTION)
  file_limit(50_000)
  store.save(_state(4), Config())
  with pytest.raises(SaveFailed, match='step 4 could not be written.*newest .* is 3'):
    store.wait()
  file_limit(limit)
  store.close()
  assert resume.find(copy, SECTION) == 3
