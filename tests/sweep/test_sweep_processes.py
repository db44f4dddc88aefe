"""Whole sweeps in processes of their own: stopped, killed, shared, several hosts."""

import json
import pathlib
import re
import signal
import subprocess
import time
from typing import Any

import pytest
import runs
import sweeps

pytestmark = pytest.mark.slow

LONG = sweeps.CONFIG.replace('total_steps=4', 'total_steps=400').replace(
    'every=2', 'every=20')


def _start(
    tmp_path: pathlib.Path, workdir: pathlib.Path, *words: str,
    text: str = sweeps.CONFIG, **process: Any) -> subprocess.Popen[str]:
  return runs.command(
      'sweep', f'--config={sweeps.write_config(tmp_path, text)}',
      f'--workdir={workdir}', *words, **process)


def _metrics(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
  found = {}
  for path in pathlib.Path(workdir).glob('cells/*/result.json'):
    result = json.loads(path.read_text())
    found[result['id']] = result['metrics']
  return found


def _unfinished_checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
  return [p for p in pathlib.Path(workdir).glob('cells/*/checkpoints/*')
          if p.name.isdigit() and int(p.name) < 400]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
  tmp_path = tmp_path_factory.mktemp('undisturbed')
  out, _ = runs.finish(_start(tmp_path, tmp_path / 'sweep', '--tasks=few', text=LONG))
  assert '4 of 4 cells are finished' in out
  return _metrics(tmp_path / 'sweep')


@pytest.mark.parametrize('number, status', [
    (signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_at_any_time_it_goes_on(
    tmp_path: pathlib.Path, undisturbed: dict[str, Any], number: int,
    status: int) -> None:
  workdir = tmp_path / 'sweep'
  process = _start(tmp_path, workdir, '--tasks=few', text=LONG)
  deadline = time.monotonic() + 200
  # In the middle of the second cell.
  try:
    while not (_metrics(workdir) and _unfinished_checkpoints(workdir)):
      assert process.poll() is None, process.communicate()
      assert time.monotonic() < deadline
      time.sleep(0.02)
    process.send_signal(number)
  except BaseException:
    process.kill()
    raise
  runs.finish(process, status)
  before = {p: p.stat().st_mtime_ns for p in workdir.glob('cells/*/result.json')}
  assert 0 < len(before) < 4
  out, _ = runs.finish(_start(tmp_path, workdir, '--tasks=few', text=LONG))
  assert 'going on from its checkpoint' in out
  assert {p: p.stat().st_mtime_ns for p in before} == before
  # As if nothing had happened.
  assert _metrics(workdir) == undisturbed


def test_two_workers_share_a_directory(tmp_path: pathlib.Path) -> None:
  workdir = tmp_path / 'sweep'
  workers = [_start(tmp_path, workdir, f'--shard={i}/2') for i in range(2)]
  outputs = [runs.finish(worker)[0] for worker in workers]
  run = [set(re.findall(r'cell \d+/8  (.*)', out)) for out in outputs]
  assert not run[0] & run[1] and len(run[0] | run[1]) == 8
  assert len(_metrics(workdir)) == 8
  # Whoever ended last has reported everything.
  assert 'All 8 cells are finished' in (workdir / 'report.md').read_text()


def test_two_processes_train_every_cell_together(tmp_path: pathlib.Path) -> None:
  alone, together = tmp_path / 'alone', tmp_path / 'together'
  runs.finish(_start(tmp_path, alone, '--tasks=few'))
  with runs.process_flags(2) as flags:
    processes = [_start(tmp_path, together, '--tasks=few', *words, devices=2)
                 for words in flags]
    outputs = [runs.finish(process)[0] for process in processes]
  assert '4 of 4 cells are finished' in outputs[0]
  assert 'cell' not in outputs[1]
  expected, found = _metrics(alone), _metrics(together)
  assert set(found) == set(expected)
  for name, metrics in found.items():
    assert metrics == pytest.approx(expected[name], abs=1e-4)


def test_an_error_of_the_first_process_ends_all(tmp_path: pathlib.Path) -> None:
  (tmp_path / 'sweep').mkdir()
  (tmp_path / 'sweep' / 'mine.txt').write_text('')
  with runs.process_flags(2) as flags:
    processes = [_start(tmp_path, tmp_path / 'sweep', *words) for words in flags]
    for process in processes:
      _, err = process.communicate(timeout=200)
      assert process.returncode == 1
      assert 'holds no sweep.json' in err
