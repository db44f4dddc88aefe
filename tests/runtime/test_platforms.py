"""libtpu without a TPU is left alone; whatever else is there is not touched."""

import importlib.util
import os

import pytest

from vit_jax.runtime import platforms
from vit_jax.runtime.errors import UserError


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


@pytest.mark.parametrize('hosts, files, given, refused', [
    ('a,b', [], None, True), ('a,b', ['accel0'], None, False),
    ('a,b', [], 'cpu', False), (None, [], None, False)])
def test_a_tpu_host_that_sees_no_device(
    tmp_path, monkeypatch, hosts, files, given, refused):
  for name in files:
    (tmp_path / name).touch()
  monkeypatch.setattr(platforms, '_DEVICE_FILES', (f'{tmp_path}/accel*', 'none'))
  for name, value in (('TPU_WORKER_HOSTNAMES', hosts), ('JAX_PLATFORMS', given)):
    monkeypatch.delenv(name, raising=False)
    if value:
      monkeypatch.setenv(name, value)
  if not refused:
    platforms.check_tpu_visible()
    return
  with pytest.raises(UserError, match='set JAX_PLATFORMS=cpu'):
    platforms.check_tpu_visible()
