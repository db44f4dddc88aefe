"""Two workers never hold one folder, and a dead one holds nothing."""

import fcntl
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from vit_jax.runtime.errors import UserError
from vit_jax.sweep.directory import LockedError, hold_lock, is_locked

_HOLD = '''
import pathlib, sys, time
from vit_jax.sweep.directory import hold_lock
with hold_lock(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(100)
'''


def test_a_lock_ends_with_its_process(tmp_path: pathlib.Path) -> None:
  other = subprocess.Popen([sys.executable, '-c', _HOLD, str(tmp_path / 'cell')],
                           stdout=subprocess.PIPE, text=True)
  try:
    assert other.stdout and other.stdout.readline() == 'held\n'
    with pytest.raises(LockedError, match=f'process {other.pid} on '):
      with hold_lock(tmp_path / 'cell'):
        pass
    with hold_lock(tmp_path / 'another'):
      pass
  finally:
    other.kill()
    other.communicate()
  with hold_lock(tmp_path / 'cell'):
    assert str(os.getpid()) in (tmp_path / 'cell' / '.lock').read_text()


def test_a_lock_excludes_this_very_process_too(tmp_path: pathlib.Path) -> None:
  with hold_lock(tmp_path):
    with pytest.raises(LockedError), hold_lock(tmp_path):
      pass
  with hold_lock(tmp_path):
    pass


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: pathlib.Path) -> None:
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='Cannot write to'):
    with hold_lock(tmp_path / 'file' / 'cell'):
      pass


def test_a_file_system_without_locks_is_explained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  def refuse(*unused: object) -> None:
    raise OSError(38, 'Function not implemented')
  monkeypatch.setattr(fcntl, 'flock', refuse)
  with pytest.raises(UserError, match='Cannot lock .* file system that has them'):
    with hold_lock(tmp_path):
      pass
  (tmp_path / '.lock').touch()
  with pytest.raises(UserError, match='Cannot lock .* file system that has them'):
    is_locked(tmp_path)


def test_a_look_changes_nothing(tmp_path: pathlib.Path) -> None:
  assert not is_locked(tmp_path) and not list(tmp_path.iterdir())
  with hold_lock(tmp_path):
    owner = (tmp_path / '.lock').read_text()
    assert is_locked(tmp_path)
    assert (tmp_path / '.lock').read_text() == owner
  assert not is_locked(tmp_path)


def test_a_look_does_not_keep_a_worker_away(tmp_path: pathlib.Path) -> None:
  with hold_lock(tmp_path):
    pass
  with open(tmp_path / '.lock', encoding='utf-8') as looking:
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
    timer.start()
    with hold_lock(tmp_path):
      pass
    timer.join()
