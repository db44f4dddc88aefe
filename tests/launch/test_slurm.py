"""The batch script: as text, run by bash with stand-ins, and by a real SLURM."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import nasty
import pytest
import runs
import slurm_cluster

from launch import __main__ as main_lib
from launch import slurm
from launch import workload as workload_lib
from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError


def _parse(*words, extra=()):
  args = main_lib.make_parser().parse_args(['slurm', *words])
  workload = workload_lib.from_flags(args, extra)
  return workload, args


@pytest.fixture
def config(tmp_path):
  return runs.write_config(tmp_path)


def test_the_script_of_a_training(config, monkeypatch):
  monkeypatch.setattr(code_version, 'of_clone', lambda _: 'abc')
  workload, args = _parse(
      f'--config={config}:a', '--workdir=/shared/run', '--nodes=4', '--gpus-per-node=8',
      '--time=1-0', '--partition=long', '--account=vit', '--python=/venv/bin/python',
      '--env=TFDS_DATA_DIR=/data dir', extra=['--config.seed=1'])
  assert slurm.script(workload, args) == textwrap.dedent(f'''\
      #!/bin/bash
      #SBATCH --job-name=run
      #SBATCH --nodes=4
      #SBATCH --ntasks-per-node=8
      #SBATCH --gpus-per-node=8
      #SBATCH --time=1-0
      #SBATCH --partition=long
      #SBATCH --account=vit
      #SBATCH --signal=TERM@120
      #SBATCH --requeue
      #SBATCH --open-mode=append
      #SBATCH --output="/shared/run/.launch/run-%j.out"

      cd {workload_lib.clone()} || exit 1
      export VIT_JAX_CODE_VERSION=abc VIT_JAX_MAX_STALLED_STARTS=5 \
TFDS_DATA_DIR='/data dir'
      export VIT_JAX_RUN_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')
      status=0
      srun --kill-on-bad-exit=0 --wait=60 /venv/bin/python -m vit_jax train \
--config={config}:a --workdir=/shared/run --config.seed=1 --multihost || status=$?
      # 75: the state is saved, the same command goes on. 76: a process was lost.
      if [ "$status" -eq 75 ] || [ "$status" -eq 76 ]; then
        if [ "${{SLURM_RESTART_COUNT:-0}}" -lt 100 ]; then
          scontrol requeue "$SLURM_JOB_ID"
        else
          echo "launch: not requeued: 100 restarts are used up" >&2
        fi
      fi
      exit "$status"
      ''')


def test_a_sweep_is_an_array(config):
  workload, args = _parse(
      f'--config={config}', '--workdir=/w', '--sweep=8', '--at-once=3')
  lines = slurm.directives(workload, args)
  assert '--array=0-7%3' in lines
  assert '--output="/w/.launch/w-%A_%a.out"' in lines
  assert ('vit_jax sweep --config=' in slurm.script(workload, args)
          and '--multihost' not in slurm.script(workload, args))


@pytest.mark.parametrize('words,message', [
    (('--sweep=2', '--nodes=2'), 'shard of a sweep is one process'),
    (('--partition=a b',), 'expected letters'), (('--time=1;x',), 'expected letters'),
    (('--account=a\n#SBATCH --uid=0',), 'expected letters'),
    (('--nodes=0',), 'expected positive'), (('--notice=0',), 'expected positive'),
    (('--workdir=/a\nb',), 'line break'), (('--workdir=/a\\b',), 'line break')])
def test_what_sbatch_would_misread_is_refused(config, words, message):
  workload, args = _parse(f'--config={config}', '--workdir=/w', *words)
  with pytest.raises(UserError, match=message):
    slurm.script(workload, args)


def _program(folder, name, body):
  path = folder / name
  path.write_text(f'#!{sys.executable}\n{textwrap.dedent(body)}')
  path.chmod(0o755)
  return path


def _run_script(tmp_path, workload, args, status, restarts=0):
  """(exit status, words of srun, words of scontrol) of the script run by bash."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  record = '''
      import json, os, sys
      with open(f'{sys.argv[0]}.json', 'w') as f:
        json.dump(sys.argv[1:], f)
      '''
  _program(folder, 'srun', f'{record}sys.exit({status})'.replace('      ', ''))
  _program(folder, 'scontrol', record)
  done = subprocess.run(
      ['bash', '-c', slurm.script(workload, args)], cwd=folder, capture_output=True,
      env={**os.environ, 'PATH': f'{folder}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '42',
           'SLURM_ARRAY_JOB_ID': '40', 'SLURM_ARRAY_TASK_ID': '5',
           'SLURM_RESTART_COUNT': str(restarts)})
  def words(name):
    path = folder / f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else None
  return done.returncode, words('srun'), words('scontrol')


def test_words_reach_the_command_as_they_were(config, tmp_path):
  extra = [f'--config.data.dir={value}' for value in nasty.VALUES]
  workload, args = _parse(
      f'--config={config}', '--workdir=/a "b" $(c) \'d\'', '--nodes=2', extra=extra)
  _, srun, _ = _run_script(tmp_path, workload, args, 0)
  assert srun == ['--kill-on-bad-exit=0', '--wait=60', sys.executable, '-m', 'vit_jax',
                  'train', f'--config={config}', '--workdir=/a "b" $(c) \'d\'', *extra,
                  '--multihost']


@pytest.mark.parametrize('status,restarts,requeued', [
    (0, 0, False), (75, 0, True), (75, 1, True), (76, 1, True), (75, 2, False),
    (1, 0, False), (130, 0, False), (137, 0, False)])
def test_only_start_again_requeues(config, tmp_path, status, restarts, requeued):
  workload, args = _parse(
      f'--config={config}', '--workdir=/w', '--sweep=8', '--restarts=2')
  code, srun, scontrol = _run_script(tmp_path, workload, args, status, restarts)
  assert code == status
  assert srun[-1] == '--shard=5/8'
  assert scontrol == (['requeue', '40_5'] if requeued else None)


def test_without_sbatch_nothing_is_written(config, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  workload, args = _parse(f'--config={config}', f'--workdir={tmp_path}/run')
  with pytest.raises(UserError, match='no sbatch on this machine'):
    slurm.run(workload, args)
  assert not (tmp_path / 'run').exists()


def test_the_script_is_its_owners_alone(config, tmp_path, monkeypatch):
  # Whatever was there before; others may read what --env holds nowhere.
  (tmp_path / 'run' / '.launch').mkdir(parents=True)
  (tmp_path / 'run' / '.launch' / 'run.sh').write_text('old')
  _program(tmp_path, 'sbatch', '')
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  workload, args = _parse(
      f'--config={config}', f'--workdir={tmp_path}/run', '--env=KEY=value')
  assert slurm.run(workload, args) == 0
  script, = (tmp_path / 'run' / '.launch').iterdir()
  assert script.stat().st_mode & 0o777 == 0o700
  assert 'KEY=value' in script.read_text()


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
  try:
    with slurm_cluster.Cluster(tmp_path_factory.mktemp('slurm')) as found:
      yield found
  except slurm_cluster.Unavailable as e:
    pytest.skip(f'no SLURM here: {e}')


def _launch(cluster, *words):
  """Submits with the command line; returns the job's number."""
  done = subprocess.run(
      [sys.executable, '-m', 'launch', 'slurm', *words, '--run'], capture_output=True,
      cwd=workload_lib.clone(), env=cluster.environment, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout.split()[-1]


def _ended(cluster, number):
  return cluster.state(number)['JobState'] in ('COMPLETED', 'FAILED', 'CANCELLED')


@pytest.mark.slow
def test_slurm_starts_shards_and_requeues(cluster, config, tmp_path):
  # In the place of Python: notes what it is given, and ends once with "start again".
  python = _program(tmp_path, 'python', '''
      import json, os, pathlib, sys
      folder = pathlib.Path(__file__).parent / 'started'
      folder.mkdir(exist_ok=True)
      shard = sys.argv[-1].split('=')[1].replace('/', '-')
      again = os.environ.get('SLURM_RESTART_COUNT', '0')
      (folder / f'{shard} {again}').write_text(json.dumps(sys.argv[1:]))
      sys.exit(75 if shard == '1-2' and again == '0' else 0)''')
  workdir = tmp_path / 'a "b" $(c) %j \'d\' #e'
  number = _launch(
      cluster, f'--config={config}', f'--workdir={workdir}', '--sweep=2', '--time=5',
      f'--python={python}', '--config.data.dir=$(touch owned)')
  shards = [f'{number}_{i}' for i in range(2)]
  cluster.wait_until(lambda: _ended(cluster, shards[0]), 'the first shard')
  cluster.start_requeued(shards[1])
  cluster.wait_until(lambda: _ended(cluster, shards[1]), 'the second shard')
  assert cluster.state(shards[1])['JobState'] == 'COMPLETED'
  started = {p.name: json.loads(p.read_text())
             for p in (tmp_path / 'started').iterdir()}
  assert set(started) == {'0-2 0', '1-2 0', '1-2 1'}
  assert started['0-2 0'] == [
      '-m', 'vit_jax', 'sweep', f'--config={config}', f'--workdir={workdir}',
      '--config.data.dir=$(touch owned)', '--shard=0/2']
  outputs = {p.name for p in (workdir / '.launch').iterdir()}
  assert {f'a-b-c-j-d-e-{shard}.out' for shard in shards} <= outputs


LENGTH = ('--config.total_steps=300', '--config.log_every=1',
          '--config.eval_every=300', '--config.checkpoint.every=50')


def _measured(workdir):
  return [{k: v for k, v in row.items() if k != 'train/images_per_second'}
          for row in runs.metrics(workdir)]


@pytest.mark.slow
def test_two_nodes_train_are_stopped_requeued_and_finish(cluster, config, tmp_path):
  def launch(workdir):
    return _launch(
        cluster, f'--config={config}', f'--workdir={workdir}', '--nodes=2', '--time=9',
        '--devices-per-process=1', *LENGTH)
  undisturbed, stopped = tmp_path / 'undisturbed', tmp_path / 'stopped'
  number = launch(stopped)
  def output():
    path = stopped / '.launch' / f'stopped-{number}.out'
    return path.read_text() if path.exists() else ''
  def saved():
    assert not _ended(cluster, number), output()
    return (stopped / 'checkpoints' / '50').exists()
  cluster.wait_until(saved, 'the first checkpoint')
  cluster.command('scancel', '--signal=TERM', number)
  cluster.start_requeued(number)
  assert 'Stopped at step' in output(), output()
  cluster.wait_until(lambda: _ended(cluster, number), 'the end')
  assert cluster.state(number)['JobState'] == 'COMPLETED', output()
  assert '2 x cpu on 2 process(es)' in output() and 'resuming at step' in output()
  other = launch(undisturbed)
  cluster.wait_until(lambda: _ended(cluster, other), 'the undisturbed run')
  assert _measured(stopped) == _measured(undisturbed)
  assert _measured(stopped)[-1]['step'] == 300
  versions = json.loads((pathlib.Path(stopped) / 'versions.json').read_text())
  assert versions['code'] == code_version.of_clone(workload_lib.clone())
