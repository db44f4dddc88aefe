"""Processes on this machine: the commands, and a training by two of them."""

import re
import shlex
import subprocess
import sys
import time

import pytest
import runs

from launch import __main__ as main_lib
from launch import local
from launch import workload as workload_lib

# Against hanging alone.
HANGS = 300


@pytest.fixture
def config(tmp_path):
  return runs.write_config(tmp_path)


def _shown(capsys, *words):
  assert main_lib.main(['local', *words]) == 0
  return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_processes_find_each_other_and_have_their_devices(config, capsys, monkeypatch):
  monkeypatch.setenv(
      'XLA_FLAGS', '--xla_force_host_platform_device_count=8 --xla_other=1')
  lines = _shown(capsys, f'--config={config}', '--workdir=/tmp/a b', '--processes=2',
                 '--devices-per-process=3')
  address, = {word for words in lines for word in words if 'coordinator' in word}
  assert address.startswith('--coordinator_address=localhost:')
  for i, words in enumerate(lines):
    assert 'JAX_PLATFORMS=cpu' in words
    assert ('XLA_FLAGS=--xla_other=1 --xla_force_host_platform_device_count=3'
            in words)
    assert words[words.index(sys.executable):] == [
        sys.executable, '-m', 'vit_jax', 'train', f'--config={config}',
        '--workdir=/tmp/a b', address, '--num_processes=2', f'--process_id={i}']


def test_a_single_process_keeps_the_devices_of_the_machine(config, capsys):
  words, = _shown(capsys, f'--config={config}', '--workdir=/tmp/w')
  assert not any(word.startswith(('XLA_FLAGS', '--num_processes')) for word in words)


def test_shards_of_a_sweep_do_not_know_each_other(config, capsys):
  lines = _shown(capsys, f'--config={config}', '--workdir=/tmp/w', '--sweep=2')
  assert [words[-1] for words in lines] == ['--shard=0/2', '--shard=1/2']
  assert not any('coordinator' in word for words in lines for word in words)


def _counting_python(monkeypatch, tmp_path, statuses):
  """Replaces Python by a program that ends with one status after the other."""
  program = tmp_path / 'python'
  program.write_text(f'''#!{sys.executable}
import pathlib, sys
path = pathlib.Path(__file__).with_name('starts')
starts = len(path.read_text()) if path.exists() else 0
path.write_text('x' * (starts + 1))
sys.exit({statuses}[starts])''')
  program.chmod(0o755)
  monkeypatch.setattr(local.sys, 'executable', str(program))


@pytest.mark.parametrize('statuses,restarts,status,starts', [
    ([75, 75, 0], 2, 0, 3), ([75, 75, 0], 1, 75, 2), ([75], 0, 75, 1),
    ([75, 1], 5, 1, 2), ([76, 0], 1, 0, 2), ([130], 5, 130, 1)])
def test_start_again_is_obeyed_as_often_as_allowed(
    config, tmp_path, monkeypatch, capfd, statuses, restarts, status, starts):
  _counting_python(monkeypatch, tmp_path, statuses)
  assert main_lib.main(['local', f'--config={config}', '--workdir=/tmp/w',
                        f'--restarts={restarts}', '--run']) == status
  assert len((tmp_path / 'starts').read_text()) == starts


def _launch(config, workdir, *words):
  return subprocess.Popen(
      [sys.executable, '-m', 'launch', 'local', f'--config={config}',
       f'--workdir={workdir}', '--processes=2', '--devices-per-process=1', *words,
       '--run'], cwd=workload_lib.clone(), stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_are_stopped_and_go_on_where_they_were(config, tmp_path):
  workdir = tmp_path / 'run'
  words = ('--config.log_every=1', '--config.eval_every=0',
           '--config.checkpoint.every=20')
  # So long that it cannot end before it is asked to stop.
  first = _launch(
      config, workdir, '--config.total_steps=1000000', *words, '--restarts=3')
  deadline = time.monotonic() + HANGS
  while not (workdir / 'checkpoints' / '20').exists():
    assert first.poll() is None and time.monotonic() < deadline
    time.sleep(0.05)
  first.terminate()
  out, _ = first.communicate(timeout=HANGS)
  # Asked to stop, it does not start again.
  assert first.returncode == 75, out
  assert '2 x cpu on 2 process(es)' in out
  stopped = int(re.search(r'\[0\] Stopped at step (\d+) of', out)[1])
  second = _launch(config, workdir, f'--config.total_steps={stopped + 30}', *words)
  out, _ = second.communicate(timeout=HANGS)
  assert second.returncode == 0, out
  assert f'resuming at step {stopped}' in out
  assert [row['step'] for row in runs.metrics(workdir) if 'train/loss' in row] == list(
      range(1, stopped + 31))


@pytest.mark.slow
def test_a_mistake_is_shown_once_it_ends_all(config, tmp_path):
  process = _launch(config, tmp_path / 'run', '--config.optimizer.name=sdg')
  out, _ = process.communicate(timeout=HANGS)
  assert process.returncode == 1
  assert "Did you mean 'sgd'?" in out
  assert 'ended with status 1; ending the others' in out
