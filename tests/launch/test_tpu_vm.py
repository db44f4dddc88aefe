"""TPU VMs: with a stand-in for gcloud that checks arguments and runs scripts."""

import itertools
import os
import pathlib
import re
import subprocess
import time

import nasty
import pytest
import small_cloud

from launch import __main__ as main_lib
from launch import tpu_job, tpu_vm
from launch import workload as workload_lib
from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError

CONFIG = '--config=configs/digits.py'
WORDS = ('tpu-vm', CONFIG, '--workdir=/mnt/runs/d', '--slice=v5litepod-16',
         '--zone=us-west4-a', '--poll=0.01')

@pytest.fixture
def cloud(tmp_path, monkeypatch):
  found = small_cloud.Cloud(tmp_path / 'cloud')
  monkeypatch.setenv('STAND_IN', str(found.folder))
  monkeypatch.setenv('PATH', str(found.folder / 'bin'), prepend=':')
  monkeypatch.setattr(code_version, 'of_clone', lambda _: 'abc')
  # A small archive in the place of the clone's.
  (tmp_path / 'code' / 'configs').mkdir(parents=True)
  (tmp_path / 'code' / 'configs' / 'digits.py').write_text('')
  monkeypatch.setattr(tpu_vm, 'archive', lambda workload: [
      'tar', '-C', str(tmp_path / 'code'), '-czf',
      str(tpu_vm.archive_path(workload)), '.'])
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  yield found
  found.delete()


def test_from_nothing_to_the_end(cloud, capsys):
  cloud.plays('ACCEPTED WAITING_FOR_RESOURCES PROVISIONING ACTIVE', '0')
  assert main_lib.main([*WORDS, '--spot', '--project=p', '--slices=2', '--run',
                        '--create-flag=--network=n']) == 0
  assert cloud.commands() == ['create', 'scp', 'install', 'start']
  assert dict(cloud.calls())['create'] == [
      'd', '--node-count=2', '--node-prefix=d', '--accelerator-type=v5litepod-16',
      '--runtime-version=v2-alpha-tpuv5-lite', '--zone=us-west4-a', '--project=p',
      '--spot', '--network=n']
  homes = sorted((cloud.folder / 'homes').iterdir())
  assert [home.name for home in homes] == ['0-0', '0-1', '1-0', '1-1']
  for home in homes:
    (words, folder, environment), = cloud.started(home.name)
    assert words == ['-m', 'vit_jax', 'train', CONFIG, '--workdir=/mnt/runs/d',
                     '--multihost']
    assert folder == str(home / 'vit_jax' / 'd' / 'code')
    assert pathlib.Path(folder, 'configs', 'digits.py').exists()
    assert environment[code_version.VARIABLE] == 'abc'
    *_, last = (home / 'installed').read_text().splitlines()
    assert last == (
        '-m uv pip install --quiet --python=venv/bin/python --find-links=https://'
        'storage.googleapis.com/jax-releases/libtpu_releases.html ./code[tpu]')
  out = capsys.readouterr().out
  assert 'd: is WAITING_FOR_RESOURCES' in out
  assert 'd: the job ended with status 0' in out


def test_a_preempted_slice_is_made_again_and_the_job_goes_on(cloud, capsys):
  cloud.plays('ACTIVE ACTIVE ACTIVE SUSPENDING SUSPENDED ACTIVE', 'wait 0')
  assert main_lib.main([*WORDS, '--run', '--delete-after']) == 0
  once = ['create', 'scp', 'install', 'start']
  assert cloud.commands() == [*once, 'delete', *once, 'delete']
  assert 'it was preempted' in capsys.readouterr().out
  assert not (cloud.folder / 'exists').exists()


@pytest.mark.slow
def test_a_job_that_says_start_again_is_started_again(cloud, capsys):
  cloud.plays('ACTIVE', '75 75 0')
  assert main_lib.main([*WORDS, '--run', '--restarts=2']) == 0
  assert cloud.commands() == ['create', *['scp', 'install', 'start'] * 3]
  log = cloud.folder / 'homes' / '0-1' / 'vit_jax' / 'd' / 'log'
  assert log.read_text().splitlines() == ['job says 75', 'job says 75', 'job says 0']


def test_restarts_come_to_an_end(cloud, capsys):
  cloud.plays('ACTIVE', '75 75 0')
  assert main_lib.main([*WORDS, '--run', '--restarts=1']) == 1
  assert 'all --restarts are used up' in capsys.readouterr().err


def test_a_failing_job_shows_its_log_and_is_left_alone(cloud, capfd):
  cloud.plays('ACTIVE', '3')
  assert main_lib.main([*WORDS, '--run']) == 3
  out = capfd.readouterr().out
  assert 'job says 3' in out and '--action=start' in out
  assert cloud.commands() == ['create', 'scp', 'install', 'start', 'logs']


def _between_polls(monkeypatch, act):
  """Calls `act(how often it was asked until now)` instead of sleeping long."""
  counter, real = itertools.count(1), time.sleep
  def sleep(unused_seconds):
    act(next(counter))
    real(0.02)
  monkeypatch.setattr(tpu_vm, '_sleep', sleep)


def test_the_same_command_attaches_to_a_running_job(cloud, monkeypatch, capsys):
  cloud.plays('ACTIVE', 'go')
  def close_the_laptop(polls):
    if polls == 4:
      raise KeyboardInterrupt
  _between_polls(monkeypatch, close_the_laptop)
  assert main_lib.main([*WORDS, '--run']) == 130
  assert 'same command' in capsys.readouterr().err
  assert cloud.commands() == ['create', 'scp', 'install', 'start']
  def end_the_job(polls):
    if polls == 3:
      (cloud.folder / 'go').touch()
  _between_polls(monkeypatch, end_the_job)
  assert main_lib.main([*WORDS, '--run']) == 0
  assert 'd: the job is running' in capsys.readouterr().out
  # And it has ended for whoever asks a third time.
  assert main_lib.main([*WORDS, '--run']) == 0
  assert cloud.commands() == ['create', 'scp', 'install', 'start']


def test_a_rebooting_worker_is_waited_for_and_its_job_started_again(
    cloud, monkeypatch, capsys):
  cloud.plays('ACTIVE', 'wait 0')
  (cloud.folder / 'unreachable').touch()
  def reboot(polls):
    if polls == 5:
      for pid in (cloud.folder / 'homes').glob('*/vit_jax/d/pid'):
        os.killpg(int(pid.read_text()), 9)
  _between_polls(monkeypatch, reboot)
  assert main_lib.main([*WORDS, '--run', '--setup=echo mounted >> ~/mounts']) == 0
  assert cloud.commands() == ['create', *['scp', 'install', 'start'] * 2]
  for home in (cloud.folder / 'homes').iterdir():
    assert (home / 'mounts').read_text() == 'mounted\n' * 2
  out = capsys.readouterr().out
  assert 'd: the job is unreachable' in out and 'd: the job was interrupted' in out


@pytest.mark.parametrize('step', ['pip install', 'setsid'])
def test_a_start_that_a_worker_misses_is_tried_again(cloud, step, capsys):
  cloud.plays('ACTIVE', '0')
  (cloud.folder / 'unreachable').write_text(step)
  assert main_lib.main([*WORDS, '--run']) == 0
  again = ['install', 'install', 'start'] if step != 'setsid' else [
      'install', 'start', 'start']
  assert cloud.commands() == ['create', 'scp', *again]
  assert 'trying again' in capsys.readouterr().out


def test_a_start_that_keeps_failing_is_an_error(cloud, capsys):
  cloud.plays('ACTIVE', '0')
  assert main_lib.main([*WORDS, '--run', '--setup=exit 7']) == 1
  assert cloud.commands() == ['create', 'scp', *['install'] * 5]
  assert 'ended with status 7' in capsys.readouterr().err


def test_a_resource_out_of_reach_for_long_is_an_error(cloud, monkeypatch, capsys):
  cloud.plays('ACTIVE', 'wait')
  now = [0.0]
  def fail_again(polls):
    now[0] = polls * 1200.0
    (cloud.folder / 'unreachable').touch()
  monkeypatch.setattr(tpu_job, '_clock', lambda: now[0])
  _between_polls(monkeypatch, fail_again)
  assert main_lib.main([*WORDS, '--run']) == 1
  # Fewer than one in twenty minutes, for the later ones come more slowly.
  failed, hours = re.search(r'failed (\d+) times in a row, for ([0-9.]+) hours',
                            capsys.readouterr().err).groups()
  assert 10 <= int(failed) < 18 and float(hours) > 6


def test_what_cannot_be_provisioned_is_an_error(cloud, capsys):
  cloud.plays('ACCEPTED FAILED', '')
  assert main_lib.main([*WORDS, '--run']) == 1
  assert 'could not be provisioned' in capsys.readouterr().err
  assert cloud.commands() == ['create']


def test_a_refusal_of_gcloud_is_an_error(cloud, capsys):
  cloud.plays('ACTIVE', '0')
  assert main_lib.main([*WORDS, '--run', '--create-flag=--colour=red']) == 1
  assert 'ended with status 2; its message is above' in capsys.readouterr().err


def test_words_reach_the_command_as_they_were(cloud):
  cloud.plays('ACTIVE', '0')
  extra = [f'--config.data.dir={value}' for value in nasty.VALUES]
  words = [*WORDS, *(f'--env=V{i}={v}' for i, v in enumerate(nasty.VALUES)),
           '--setup=echo "$HOME set up" > ~/set\\ up', '--run', '--', *extra]
  assert main_lib.main(words) == 0
  (started, _, environment), = cloud.started('0-1')
  assert started[5:] == [*extra, '--multihost']
  assert [environment[f'V{i}'] for i in range(len(nasty.VALUES))] == list(nasty.VALUES)
  home = cloud.folder / 'homes' / '0-1'
  assert (home / 'set up').read_text() == f'{home} set up\n'
  assert not list(cloud.folder.rglob('owned'))


def test_other_actions(cloud, capfd):
  cloud.plays('ACTIVE', '0 0')
  assert main_lib.main([*WORDS, '--run']) == 0
  capfd.readouterr()
  assert main_lib.main([*WORDS, '--run', '--action=status']) == 0
  assert capfd.readouterr().out.splitlines()[-1] == 'vit_jax job: 0'
  assert main_lib.main([*WORDS, '--run', '--action=start']) == 0
  # What was started speaks when it comes to it.
  deadline, said = time.monotonic() + 120, 0
  while said < 2 * 2 and time.monotonic() < deadline:
    assert main_lib.main([*WORDS, '--run', '--action=logs']) == 0
    said = capfd.readouterr().out.count('job says 0')
  assert said == 2 * 2
  assert main_lib.main([*WORDS, '--run', '--action=delete']) == 0
  assert not (cloud.folder / 'exists').exists()


def test_the_dry_run_is_what_is_run(cloud, capsys):
  cloud.plays('ACTIVE', '0')
  assert main_lib.main(list(WORDS)) == 0
  assert not (cloud.folder / 'calls').exists()
  shown = capsys.readouterr().out
  # A shell reads the printed lines as the calls that --run makes.
  subprocess.run(['bash', '-ec', shown], check=True, capture_output=True)
  printed = cloud.calls()
  (cloud.folder / 'calls').unlink()
  cloud.delete()
  for counter in cloud.folder.glob('starts*'):
    counter.unlink()
  (cloud.folder / 'calls').unlink()
  assert main_lib.main([*WORDS, '--run']) == 0
  unique = lambda calls: list(dict.fromkeys(map(str, calls)))  # noqa: E731
  assert sorted(unique(printed)) == sorted(unique(cloud.calls()))


def test_nobody_else_can_foresee_or_read_the_archive(cloud, monkeypatch):
  cloud.plays('ACTIVE', '0')
  modes, real = [], tpu_job.TpuJob.reconcile
  path = tpu_vm.archive_path(workload_lib.Workload('d', '', ''))
  def reconcile(job):
    modes.append(path.stat().st_mode & 0o777)
    return real(job)
  monkeypatch.setattr(tpu_job.TpuJob, 'reconcile', reconcile)
  assert main_lib.main([*WORDS, '--run']) == 0
  assert set(modes) == {0o600} and not path.exists()
  assert re.fullmatch('[0-9a-f]{32}-vit_jax-d.tar.gz', path.name)


def test_a_sweep_has_a_queued_resource_for_each_shard():
  args = main_lib.make_parser().parse_args(
      ['tpu-vm', CONFIG, '--workdir=/mnt/s', '--slice=v5litepod-8', '--zone=z',
       '--sweep=2'])
  shown = tpu_vm.show(workload_lib.from_flags(args, ()), args)
  for i in range(2):
    assert f'queued-resources create s-{i} --node-id=s-{i} ' in shown
    assert f'vit_jax sweep {CONFIG} --workdir=/mnt/s --shard={i}/2' in shown


@pytest.mark.parametrize('words,message', [
    (('--slice=v5litepod-17',), 'no slice'), (('--slice=tpu7x:2x2x1',), 'Use gke'),
    (('--slice=v4-16', '--sweep=2'), 'one process'),
    (('--slices=0',), 'at least 1'), (('--poll=-1',), 'no negative'),
    (('--workdir=runs/d',), 'absolute path'),
    (('--config={}/other.py',), 'would not be copied')])
def test_mistakes_are_explained(words, message, tmp_path):
  (tmp_path / 'other.py').write_text('')
  args = main_lib.make_parser().parse_args(
      [*WORDS, *(w.format(tmp_path) for w in words)])
  with pytest.raises(UserError, match=message):
    tpu_vm.jobs(workload_lib.from_flags(args, ()), args)


def test_uncommitted_code_is_refused(cloud, monkeypatch, capsys):
  monkeypatch.setattr(code_version, 'of_clone', lambda _: 'abc-dirty')
  assert main_lib.main(list(WORDS)) == 0
  assert capsys.readouterr().out.startswith('# --run would refuse')
  assert main_lib.main([*WORDS, '--run']) == 1
  assert 'not committed' in capsys.readouterr().err
  assert not (cloud.folder / 'calls').exists()


def test_the_archive_is_the_committed_code_without_the_tests(tmp_path, monkeypatch):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  workload = workload_lib.Workload('n', 'configs/digits.py', '/w')
  subprocess.run(tpu_vm.archive(workload), check=True)
  names = subprocess.run(
      ['tar', '-tzf', str(tpu_vm.archive_path(workload))], check=True,
      capture_output=True, text=True).stdout.split()
  assert {'setup.py', 'README.md', 'configs/digits.py', 'vit_jax/cli/main.py'} <= set(
      names)
  assert not [name for name in names if name.startswith('tests')]
