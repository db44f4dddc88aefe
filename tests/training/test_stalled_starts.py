"""Launchers stop a run that never reaches a new checkpoint."""

import dataclasses

import pytest

from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.training import stalled_starts

CONFIG = Config(total_steps=10)


@pytest.fixture(autouse=True)
def limit(monkeypatch):
  monkeypatch.setenv(stalled_starts.VARIABLE, '3')


def _start(workdir, step, config=CONFIG):
  stalled_starts.check(workdir, config, step)


def test_starts_without_a_new_checkpoint_come_to_an_end(tmp_path):
  for step in (0, 0, 0, 5, 5, 5):
    _start(tmp_path, step)
  for _ in range(2):
    with pytest.raises(UserError, match='3 starts in a row .* from step 5 to a new'):
      _start(tmp_path, 5)
  _start(tmp_path, 6)


def test_other_settings_count_anew(tmp_path):
  for _ in range(3):
    _start(tmp_path, 0)
  _start(tmp_path, 0, dataclasses.replace(CONFIG, batch_size=8))


@pytest.mark.parametrize('content', ['', '[]', '{"starts": "x"}', '[' * 100_000])
def test_a_damaged_count_begins_anew(tmp_path, content):
  (tmp_path / '.starts.json').write_text(content)
  for _ in range(3):
    _start(tmp_path, 0)


@pytest.mark.parametrize('limit', ['', '0', 'many'])
def test_without_a_launcher_nothing_is_counted(tmp_path, monkeypatch, limit):
  monkeypatch.setenv(stalled_starts.VARIABLE, limit)
  for _ in range(9):
    _start(tmp_path, 0)
  assert not list(tmp_path.iterdir())
