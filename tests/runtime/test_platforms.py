"""libtpu without a TPU is left alone; whatever else is there is not touched."""

import importlib.util
import os

import pytest

from vit_jax.runtime import platforms


@pytest.mark.parametrize('libtpu, files, given, expected', [
    (True, [], None, 'cpu'),
    (True, ['accel0'], None, None),
    (True, ['nvidia0', 'nvidiactl'], None, None),
    (True, [], 'tpu', 'tpu'),
    (False, [], None, None),
])
def test_platforms(tmp_path, monkeypatch, libtpu, files, given, expected):
  for name in files:
    (tmp_path / name).touch()
  monkeypatch.setattr(platforms, '_DEVICE_FILES', tuple(
      pattern.replace('/dev', str(tmp_path)) for pattern in platforms._DEVICE_FILES))
  monkeypatch.setattr(
      importlib.util, 'find_spec', lambda name: object() if libtpu else None)
  monkeypatch.delenv('JAX_PLATFORMS')
  if given:
    monkeypatch.setenv('JAX_PLATFORMS', given)
  platforms.rule_out_tpu()
  assert os.environ.get('JAX_PLATFORMS') == expected
