"""The commit that a run records, against git itself."""

import subprocess

from vit_jax.runtime import code_version


def _git(folder, *words):
  return subprocess.run(
      ['git', '-c', 'user.name=n', '-c', 'user.email=e', *words], cwd=folder,
      check=True, capture_output=True, text=True).stdout.strip()


def test_of_a_clone_it_is_the_commit_and_whether_files_changed(tmp_path):
  assert code_version.of_clone(tmp_path) is None
  _git(tmp_path, 'init', '--quiet')
  assert code_version.of_clone(tmp_path) is None  # No commit yet.
  (tmp_path / 'file').write_text('1')
  _git(tmp_path, 'add', 'file')
  _git(tmp_path, 'commit', '--quiet', '--message=m')
  # A tag does not take the place of the commit.
  _git(tmp_path, 'tag', '--annotate', '--message=m', 'v1')
  commit = _git(tmp_path, 'rev-parse', 'HEAD')
  assert code_version.of_clone(tmp_path) == commit
  (tmp_path / 'file').write_text('2')
  assert code_version.of_clone(tmp_path) == f'{commit}-dirty'
  # A folder inside of it, such as an environment, is not that clone.
  (tmp_path / 'inside').mkdir()
  assert code_version.of_clone(tmp_path / 'inside') is None


def test_the_launcher_may_say_it(monkeypatch):
  monkeypatch.setenv(code_version.VARIABLE, 'abc-dirty')
  assert code_version.current() == 'abc-dirty'
