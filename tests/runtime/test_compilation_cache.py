"""Where compiled programs are kept, and that the user decides."""

import jax
import pytest

from vit_jax.runtime import compilation_cache


@pytest.fixture
def cache_dir():
  """The current setting, restored afterwards."""
  before = jax.config.jax_compilation_cache_dir
  yield before
  jax.config.update('jax_compilation_cache_dir', before)


def test_the_variable_of_jax_decides(cache_dir, monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '/elsewhere')
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir == cache_dir


def test_programs_go_to_the_users_cache_folder(cache_dir, monkeypatch, tmp_path):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  compilation_cache.enable()
  (folder,) = (tmp_path / 'vit_jax' / 'xla').iterdir()
  assert jax.config.jax_compilation_cache_dir == str(folder)


def test_a_folder_that_cannot_be_made_is_done_without(cache_dir, monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir == cache_dir
