"""Faults of real processes. `benchmarks/faults.py` does the same, more often."""

import random

import faults
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('faults')


@pytest.fixture(scope='module')
def reference(folder):
  """The final state of two processes that nothing happens to."""
  return faults.undisturbed(folder)


@pytest.fixture
def rng():
  return random.Random(0)


@pytest.mark.parametrize('victim, moment', [(1, 'training'), (0, 'save')])
def test_kill(tmp_path, reference, rng, victim, moment):
  outcome = faults.killed(tmp_path, reference, rng, victim, moment)
  assert outcome.ok, outcome.text


def test_sigterm_to_one(tmp_path, reference, rng):
  outcome = faults.terminated(tmp_path, reference, rng, 1)
  assert outcome.ok, outcome.text


def test_damaged_checkpoint(tmp_path, folder, reference, rng):
  outcome = faults.damaged(
      tmp_path, reference, rng, 'flip', folder / 'undisturbed')
  assert outcome.ok, outcome.text


def test_full_disk(tmp_path, reference, rng):
  try:
    outcome = faults.full_disk(tmp_path, reference, rng)
  except PermissionError as e:
    pytest.skip(str(e))
  assert outcome.ok, outcome.text


def test_process_that_never_starts(tmp_path):
  outcome = faults.absent(tmp_path)
  assert outcome.ok, outcome.text
