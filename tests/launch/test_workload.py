"""The one description of what to run, and the command line around it."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from launch import __main__ as main_lib
from launch import workload as workload_lib


@pytest.fixture
def config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('')
  return str(path)


def _main(capsys, *words):
  status = main_lib.main(list(words))
  captured = capsys.readouterr()
  return status, captured.out, captured.err


def test_overrides_and_words_after_the_dashes_are_passed_on(config, capsys):
  status, out, _ = _main(
      capsys, 'local', f'--config={config}:arg', '--config.seed=3', '--workdir=/tmp/w',
      '--config.model.depth', '2', '--', '--debug')
  assert status == 0
  assert out.endswith(f'-m vit_jax train --config={config}:arg --workdir=/tmp/w '
                      '--config.seed=3 --config.model.depth 2 --debug\n')


def test_nothing_is_started_without_run(config, capsys, tmp_path):
  workdir = tmp_path / 'run'
  for engine, *more in (
      ['local', '--processes=2'], ['slurm'],
      ['tpu-vm', '--slice=v4-8', '--zone=z', '--config.seed=1'],
      ['gke', '--slice=v4-8', '--image=i']):
    path = 'configs/digits.py' if engine == 'tpu-vm' else config
    status, out, err = _main(
        capsys, engine, f'--config={path}', f'--workdir={workdir}', *more)
    assert status == 0 and 'vit_jax' in out and err == ''
  assert not workdir.exists()


@pytest.mark.parametrize('words,message', [
    (('--config=nowhere.py', '--workdir=/w'), 'there is no file nowhere.py'),
    (('--config={}', '--workdir=gs://b/w'), 'is a URL'),
    (('--config={}', '--workdir=/w', '--name=Big'), 'lower-case letters'),
    (('--config={}', '--workdir=/w', '--env=A'), 'expected NAME=VALUE'),
    (('--config={}', '--workdir=/w', '--env=A B=1'), 'no name of an environment'),
    (('--config={}', '--workdir=/w', '--sweep=-1'), 'number of shards'),
    (('--config={}', '--workdir=/w', '--processes=0'), 'at least one process'),
    (('--config={}', '--workdir=/w', '--sweep=2', '--processes=3'),
     'leave --processes')])
def test_mistakes_are_explained(config, capsys, words, message):
  status, out, err = _main(capsys, 'local', *(w.format(config) for w in words))
  assert status == 1 and out == ''
  assert err.startswith('launch local: error: ') and message in err


@pytest.mark.parametrize('workdir,name', [
    ('/runs/My Run_2', 'my-run-2'), ('/runs/2024', 'job-2024'), ('/runs/---', 'job'),
    ('/x/' + 'a' * 50, 'a' * 40), ('/x/naïve', 'na-ve')])
def test_names_come_from_the_work_directory(config, workdir, name):
  args = main_lib.make_parser().parse_args(
      ['local', f'--config={config}', f'--workdir={workdir}'])
  assert workload_lib.from_flags(args, []).name == name


@pytest.mark.parametrize('in_clone', [True, False])
def test_without_the_library_it_says_so(tmp_path, in_clone):
  # -S: a Python without installed packages. `launch` alone, or the clone with it.
  (tmp_path / 'launch').symlink_to(workload_lib.clone() / 'launch')
  done = subprocess.run(
      [sys.executable, '-S', '-m', 'launch', 'local'], text=True, env={},
      cwd=workload_lib.clone() if in_clone else tmp_path, capture_output=True)
  assert done.returncode == 1
  assert 'cannot import vit_jax' in done.stderr and 'pip install' in done.stderr


def test_the_documented_commands_and_examples_are_right(capsys, monkeypatch):
  monkeypatch.chdir(workload_lib.clone())
  page = pathlib.Path('docs/launch.md').read_text().replace('\\\n', ' ')
  found = re.findall(r'^python -m (launch .*)$', page, flags=re.MULTILINE)
  found += [example.partition(' -m ')[2] for _, _, example in main_lib.ENGINES.values()]
  assert {line.split()[1] for line in found} == set(main_lib.ENGINES)
  for line in found:
    words = [word for word in shlex.split(line)[1:] if word != '--run']
    status, out, err = _main(capsys, *words)
    assert status == 0 and 'vit_jax' in out, f'{line}\n{err}'


def test_help_of_every_engine_has_an_example(capsys):
  for engine in main_lib.ENGINES:
    with pytest.raises(SystemExit) as stop:
      main_lib.main([engine, '--help'])
    assert stop.value.code == 0
    assert f'Example: python -m launch {engine}' in ' '.join(
        capsys.readouterr().out.split())
