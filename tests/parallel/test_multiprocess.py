"""One loss curve on any number of processes, and restarts on another number."""

import shutil

import fault_runs
import jax.numpy as jnp
import numpy as np
import pytest
import runs

pytestmark = pytest.mark.slow

# Ten steps, saved at 5 and 10, every one logged. At a constant rate, so that a run that
# is to end after five steps is the beginning of one of ten.
WORDS = ('--config.total_steps=10', '--config.checkpoint.every=5',
         '--config.checkpoint.keep=3', '--config.log_every=1', '--config.eval_every=0',
         '--config.schedule.name=constant', '--config.data.test_split=test[:50]')


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """Work directory of the run in one process on one device."""
  return _train(tmp_path_factory.mktemp('alone'), 1)


def _train(folder, size, *words, devices=1, workdir=None):
  workdir = workdir or folder / 'run'
  group = fault_runs.Group(folder, workdir, size, (*WORDS, *words), devices)
  assert set(group.ends().values()) == {0}, group.log(0)
  for i in range(1, size):
    assert group.log(i) == ''  # Only process 0 speaks.
  return workdir


def _assert_same_curve(workdir, expected):
  losses, others = runs.losses(workdir), runs.losses(expected)
  assert losses.keys() == others.keys() == set(range(1, 11))
  for step in losses:
    assert abs(losses[step] - others[step]) < 1e-5
  last, other = runs.metrics(workdir)[-1], runs.metrics(expected)[-1]
  assert last['test/accuracy'] == other['test/accuracy']
  assert abs(last['test/loss'] - other['test/loss']) < 1e-5


def test_four_processes_hsdp(alone, tmp_path):
  # Four processes of one device: two replicas, each divided over two processes.
  _assert_same_curve(_train(tmp_path, 4, '--config.mesh.fsdp=2'), alone)


def test_a_run_moves_between_numbers_of_processes_and_layouts(alone, tmp_path):
  # Five steps in two processes with all parameters divided, then one process of two
  # devices as replicas.
  workdir = _train(tmp_path, 2, '--config.total_steps=5', '--config.mesh.data=1')
  assert fault_runs.steps(workdir) == [5]
  (tmp_path / 'second').mkdir()
  _train(tmp_path / 'second', 1, devices=2, workdir=workdir)
  _assert_same_curve(workdir, alone)


def test_a_checkpoint_of_one_process_restores_onto_two(alone, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(alone, workdir)
  shutil.rmtree(workdir / 'checkpoints/10')
  _train(tmp_path, 2, '--config.mesh.fsdp=2', workdir=workdir)
  _assert_same_curve(workdir, alone)
  ours, theirs = fault_runs.state(workdir, 10), fault_runs.state(alone, 10)
  assert ours.keys() == theirs.keys()
  for name, x in ours.items():
    if x is not None:
      # Sums in another order may round to the neighbour in bfloat16, the momentum.
      bounds = (dict(rtol=2**-7, atol=5e-5) if x.dtype == jnp.bfloat16 else
                dict(atol=1e-5))
      np.testing.assert_allclose(
          np.asarray(x, np.float32), np.asarray(theirs[name], np.float32), **bounds)
