"""Faults of real processes. `benchmarks/kill_table.py` does the same, more often."""

import random

import fault_runs
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('faults')


@pytest.fixture(scope='module')
def reference(folder):
  """The final state of two processes that nothing happens to."""
  return fault_runs.undisturbed(folder)


@pytest.fixture
def rng():
  return random.Random(0)


def test_one_fault_after_another(tmp_path, reference, rng):
  workdir = tmp_path / 'run'
  outcome = fault_runs.kill(tmp_path, workdir, rng, 1, 'training', after=5)
  assert outcome.ok, outcome.text
  outcome = fault_runs.terminate(tmp_path, workdir, 1, after=5)
  assert outcome.ok, outcome.text
  outcome = fault_runs.and_then(
      fault_runs.kill(tmp_path, workdir, rng, 0, 'save', after=5),
      tmp_path, workdir, reference)
  assert outcome.ok, outcome.text


def test_damaged_checkpoint(tmp_path, folder, reference, rng):
  outcome = fault_runs.damaged(
      tmp_path, reference, rng, 'flip', folder / 'undisturbed')
  assert outcome.ok, outcome.text


def test_full_disk(tmp_path, reference, rng):
  try:
    outcome = fault_runs.full_disk(tmp_path, reference, rng)
  except PermissionError as e:
    pytest.skip(str(e))
  assert outcome.ok, outcome.text


def test_process_that_never_starts(tmp_path):
  outcome = fault_runs.absent(tmp_path)
  assert outcome.ok, outcome.text
