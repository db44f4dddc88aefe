"""New files and folders: complete or absent, and nothing is overwritten."""

import os
import platform
import subprocess

import pytest

from vit_jax.runtime import atomic
from vit_jax.runtime.errors import UserError


def test_new_file_and_folder(tmp_path):
  with atomic.new(tmp_path / 'x.npz') as path:
    assert path.suffix == '.npz'
    path.write_text('new')
    assert not (tmp_path / 'x.npz').exists()
  with atomic.new(tmp_path / 'folder') as path:
    path.mkdir()
    (path / 'inside').mkdir()
    (path / 'inside' / 'a').write_text('1')
  assert (tmp_path / 'x.npz').read_text() == 'new'
  assert (tmp_path / 'folder' / 'inside' / 'a').read_text() == '1'
  assert sorted(os.listdir(tmp_path)) == ['folder', 'x.npz']


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt])
def test_nothing_is_left_of_what_fails(error, tmp_path):
  with pytest.raises((error, UserError)):
    with atomic.new(tmp_path / 'x') as path:
      path.mkdir()
      (path / 'half').write_text('')
      raise error('stopped')
  assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
  (tmp_path / 'x').write_text('mine')
  with pytest.raises(UserError, match='never overwritten'):
    with atomic.new(tmp_path / 'x'):
      pass
  with pytest.raises(UserError, match='never overwritten'):
    with atomic.new(tmp_path / 'y') as path:
      path.write_text('new')
      (tmp_path / 'y').write_text('theirs')  # meanwhile
  assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
      'x': 'mine', 'y': 'theirs'}


def test_leftovers_of_killed_processes_are_removed(tmp_path):
  host = platform.node()
  dead = subprocess.Popen(['true'])
  dead.wait()
  names = [f'.partial-{host}-{dead.pid}-x.npz', f'.partial-{host}-1-x.npz',
           f'.partial-elsewhere-{dead.pid}-x.npz', f'.partial-{host}-{dead.pid}-y.npz']
  for name in names:
    (tmp_path / name).write_text('')
  with atomic.new(tmp_path / 'x.npz') as path:
    path.write_text('new')
  assert {x.name for x in tmp_path.iterdir()} == {*names[1:], 'x.npz'}
