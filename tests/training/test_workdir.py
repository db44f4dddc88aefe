"""Work directories: whose they are, and that nothing foreign is touched."""

import dataclasses
import json
import os

import jax
import pytest

from vit_jax.config.sections import Config
from vit_jax.runtime import code_version, files
from vit_jax.runtime.errors import UserError
from vit_jax.training import workdir

CONFIG = Config(total_steps=10)
DATA = workdir.DatasetFacts('pets', 20, 2, ('cat', 'dog'))


def _contents(path):
  return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def test_claim_records_settings_and_versions(tmp_path):
  path = tmp_path / 'a' / 'b'
  workdir.claim(str(path), CONFIG, DATA)
  assert workdir.read_config(path) == CONFIG
  assert {'config.json', 'dataset.json', 'versions.json'} == set(_contents(path))
  versions = json.loads((path / 'versions.json').read_text())
  assert versions['jax'] == jax.__version__
  assert versions['code'] == code_version.current()


def test_claiming_again_with_other_logging_is_fine(tmp_path):
  workdir.claim(tmp_path, CONFIG, DATA)
  longer = dataclasses.replace(CONFIG, log_every=7, total_steps=20)
  workdir.claim(tmp_path, longer, DATA)
  assert workdir.read_config(tmp_path) == longer


def test_another_run_is_refused_and_unchanged(tmp_path):
  workdir.claim(tmp_path, CONFIG, DATA)
  before = _contents(tmp_path)
  with pytest.raises(UserError, match='config.batch_size: 512 there, 64 here'):
    workdir.claim(tmp_path, dataclasses.replace(CONFIG, batch_size=64), DATA)
  assert _contents(tmp_path) == before


def test_other_data_are_refused_and_change_nothing(tmp_path):
  workdir.claim(tmp_path, CONFIG, DATA)
  before = _contents(tmp_path)
  more = workdir.DatasetFacts('pets', 30, 3, ('cat', 'dog', 'emu'))
  with pytest.raises(UserError, match='20 examples of .* cat, dog; digits now'):
    workdir.claim(tmp_path, CONFIG, more)
  assert _contents(tmp_path) == before
  assert workdir.read_dataset(tmp_path) == DATA


def test_a_run_killed_in_its_first_moment_can_start_again(tmp_path):
  workdir.claim(tmp_path, CONFIG, DATA)
  (tmp_path / 'dataset.json').unlink()
  (tmp_path / 'versions.json').unlink()
  workdir.claim(tmp_path, CONFIG, DATA)
  assert workdir.read_dataset(tmp_path) == DATA


def test_a_foreign_directory_is_refused_and_unchanged(tmp_path):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(UserError, match='not empty and holds no config.json'):
    workdir.claim(tmp_path, CONFIG, DATA)
  assert _contents(tmp_path) == {'thesis.tex': b'precious'}


def test_a_file_is_refused(tmp_path):
  (tmp_path / 'f').write_text('precious')
  with pytest.raises(UserError, match='is a file'):
    workdir.claim(str(tmp_path / 'f'), CONFIG, DATA)


def test_unwritable_place():
  # /proc refuses new files even to root.
  if not os.path.isdir('/proc/self'):
    pytest.skip('needs /proc')
  with pytest.raises(UserError, match='Cannot write to --workdir=/proc/run'):
    workdir.claim('/proc/run', CONFIG, DATA)


def test_reading_what_is_no_work_directory(tmp_path):
  with pytest.raises(UserError, match='not the work directory of a run'):
    workdir.read_config(tmp_path)


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'x.json'
  files.write_json(path, {'a': 1})
  def fail(*_):
    raise OSError('disk full')
  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    files.write_json(path, {'a': 2})
  assert _contents(tmp_path) == {'x.json': b'{\n  "a": 1\n}\n'}


def test_the_folder_of_a_sweep_points_at_its_cells(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / 'cells' / name).mkdir(parents=True)
    (tmp_path / 'cells' / name / 'config.json').write_text('{}')
  (tmp_path / 'cells' / 'b' / 'checkpoints' / '5').mkdir(parents=True)
  with pytest.raises(UserError, match='that of a sweep.*--workdir=.*/cells/b'):
    workdir.read_config(tmp_path)
