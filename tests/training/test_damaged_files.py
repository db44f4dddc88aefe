"""Small files of runs and sweeps, damaged in every way: never a traceback."""

import dataclasses
import json
import random

import pytest

from vit_jax import config as config_lib
from vit_jax.checkpoints import integrity
from vit_jax.config import tuned
from vit_jax.config.sections import Config
from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, definition
from vit_jax.sweep.directory import CellResult, SweepDirectory
from vit_jax.sweep.summary import summarize
from vit_jax.training import metrics, workdir

CONFIG = Config(total_steps=10)
DATA = workdir.DatasetFacts('pets', 20, 2, ('cat', 'dog'))
SWEEP = definition.from_dict(
    config_lib.with_values(CONFIG, {'model.variant': 'Ti/16'}),
    {'tasks': {'task': {'search': {}, 'final': None, 'group': ''}},
     'grid': {'optimizer.learning_rate': (0.1, 0.2)}, 'seeds': 1,
     'select': 'test/accuracy'}, '')
CELL = cells.first_stage(SWEEP, SWEEP.tasks['task'])[0]
ROWS = [{'step': s, 'train/loss': 1.0 / s} for s in range(1, 20)]

_ODD = (None, [], {}, '', 'x', -1, 0, 1.5, True, 10**400, float('inf'), float('nan'),
        [[]], {'': {}}, '\ud800', 'a' * 5000, [1, 'a', None])


def _parts(value):
  """(container, key) of everything inside of a value."""
  for key in value if isinstance(value, dict) else range(len(value)):
    yield value, key
    if isinstance(value[key], dict | list):
      yield from _parts(value[key])


def _other_value(rng, value):
  value = json.loads(json.dumps(value))
  place, key = rng.choice(list(_parts(value)))
  what = rng.randrange(3)
  if what == 0:
    place[key] = rng.choice(_ODD)
  elif what == 1:
    del place[key]
  elif isinstance(place, dict):
    place[rng.choice(['new', '', 'step', 'a.b'])] = rng.choice(_ODD)
  return json.dumps(value).encode()


def _other_bytes(rng, data):
  data, at = bytearray(data), rng.randrange(len(data))
  what = rng.randrange(4)
  if what == 0:
    del data[at:]
  elif what == 1:
    data[at] = rng.randrange(256)
  elif what == 2:
    data[at:at] = rng.randbytes(5)
  else:
    del data[at:at + rng.randrange(1, 40)]
  return bytes(data)


_FIXED = (b'', b'[]', b'{}', b'null', b'3', b'"x"', b'\xff\xfe', b'\0' * 100,
          b'[' * 200_000, b'{"a":' * 100_000, b'{"a":' * 500 + b'1' + b'}' * 500,
          b'[' * 500 + b']' * 500, b'{"step": 1}\n[]\n{}\n\xff\n' + b'9' * 5000)


def _mutations(value, seed, count=40):
  """Damaged forms of the file that holds a value."""
  rng = random.Random(seed)
  data = json.dumps(value).encode()
  yield from _FIXED
  for i in range(count):
    yield _other_bytes(rng, data) if i % 2 else _other_value(rng, value)


def _survives(read):
  try:
    read()
  except UserError as e:
    assert len(str(e).splitlines()[0]) > 20


def _sweep_directory(tmp_path) -> SweepDirectory:
  directory = SweepDirectory(str(tmp_path))
  directory.results.folder(CELL).mkdir(parents=True)
  (tmp_path / 'sweep.json').write_text(json.dumps(definition.to_json(SWEEP)))
  return directory


def _cell_file(tmp_path, name):
  directory = _sweep_directory(tmp_path)
  return directory.results.folder(CELL) / name


def _read_sweep(folder):
  directory = SweepDirectory(str(folder))
  directory.extended(SWEEP)
  directory.results.get(CELL)
  directory.results.error(CELL)
  directory.results.versions(CELL)
  summarize(directory.read_existing(), directory.results)


RESULT = dataclasses.asdict(CellResult(
    CELL.id, 'task', CELL.stage, dict(CELL.settings), 0, {'test/accuracy': 0.5}, 10,
    1.0, False, '', {'jax': '0.10.2'}))
TUNED = {'kind': tuned.KIND, 'settings': {'accum_steps': 2, 'mesh.fsdp': 4},
         'made_for': {'batch_size': 512, 'model.variant': 'Ti/16'}}


@pytest.mark.parametrize('name, value', [
    ('config.json', config_lib.to_dict(CONFIG)),
    ('dataset.json', dataclasses.asdict(DATA)), ('versions.json', {'jax': '0.10.2'})])
def test_files_of_a_work_directory(tmp_path, name, value):
  for data in _mutations(value, name):
    workdir.claim(tmp_path, CONFIG, DATA)
    (tmp_path / name).write_bytes(data)
    _survives(lambda: workdir.check_usable(str(tmp_path), CONFIG, DATA))
    _survives(lambda: workdir.read_config(tmp_path))
    _survives(lambda: workdir.read_dataset(tmp_path))
    for file in tmp_path.iterdir():
      file.unlink()


def test_metrics(tmp_path, capsys):
  rng, data = random.Random(0), ''.join(json.dumps(r) + '\n' for r in ROWS).encode()
  path = tmp_path / metrics.FILE
  for damaged in (*_FIXED, *(_other_bytes(rng, data) for _ in range(60))):
    path.write_bytes(damaged)
    assert all(row['step'] >= 0 for row in metrics.read(tmp_path))
    capsys.readouterr()
    metrics.Writer(tmp_path, resume_step=10).close()
    assert capsys.readouterr().err.count('\n') <= 1
    # What was kept is whole, and a line written next is one of its own.
    kept = path.read_bytes()
    assert not kept or kept.endswith(b'\n')
    assert len(metrics.read(tmp_path)) == kept.count(b'\n')


def test_sound_lines_beside_damaged_ones_are_kept_with_a_warning(tmp_path, capsys):
  lines = [json.dumps(row).encode() for row in ROWS[:4]]
  (tmp_path / metrics.FILE).write_bytes(b'\n'.join(
      [lines[0], b'[]', lines[1], b'{"step": 3, "train', b'\xff', b'{}', *lines[2:]]))
  assert metrics.read(tmp_path) == ROWS[:4]
  assert '4 damaged line(s)' in capsys.readouterr().err


@pytest.mark.parametrize('name, value', [
    ('result.json', RESULT), ('error.json', {'id': 'a', 'message': 'no', 'seed': 1}),
    ('versions.json', {'jax': '0.10.2'})])
def test_files_of_a_cell(tmp_path, name, value):
  path = _cell_file(tmp_path, name)
  for data in _mutations(value, name):
    path.write_bytes(data)
    _survives(lambda: _read_sweep(tmp_path))


def test_definition_of_a_sweep(tmp_path):
  _sweep_directory(tmp_path)
  for data in _mutations(definition.to_json(SWEEP), 'sweep', 80):
    (tmp_path / 'sweep.json').write_bytes(data)
    _survives(lambda: _read_sweep(tmp_path))


def test_tuned_files(tmp_path):
  path = tmp_path / 'tuned.json'
  config = dataclasses.replace(CONFIG, tuned=str(path))
  for data in _mutations(TUNED, 'tuned'):
    path.write_bytes(data)
    _survives(lambda: config_lib.check(config_lib.with_tuned(config)))


def test_checksums(tmp_path):
  (tmp_path / 'a').write_bytes(b'content')
  integrity.seal(tmp_path)
  path = tmp_path / integrity._LIST
  for data in _mutations(json.loads(path.read_text()), 'sums'):
    path.write_bytes(data)
    assert isinstance(integrity.damage(tmp_path), str)


def test_a_huge_file_is_not_read(tmp_path):
  with open(tmp_path / 'a.json', 'wb') as file:
    file.truncate(1 << 40)  # It takes no room.
  with pytest.raises(UserError, match='more than 1000 bytes'):
    json_files.read_object(tmp_path / 'a.json', 'Move it away.', limit=1000)


def test_a_directory_in_place_of_a_file(tmp_path):
  for name in ('config.json', metrics.FILE, 'sweep.json'):
    (tmp_path / name).mkdir()
  with pytest.raises(UserError, match='Is a directory'):
    workdir.read_config(tmp_path)
  with pytest.raises(UserError, match='Is a directory'):
    metrics.read(tmp_path)
  with pytest.raises(UserError, match='Is a directory'):
    SweepDirectory(str(tmp_path)).read()


def test_a_work_directory_whose_name_is_too_long(tmp_path):
  path = str(tmp_path / ('x' * 300))
  for use in (lambda: workdir.check_usable(path, CONFIG, DATA),
              lambda: workdir.read_config(path), lambda: SweepDirectory(path).read()):
    with pytest.raises(UserError, match='name too long'):
      use()
