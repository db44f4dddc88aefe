"""`vit_jax sweep` as it is typed."""

import pathlib

import pytest
import sweeps

from vit_jax.cli.main import main
from vit_jax.sweep import cells
from vit_jax.sweep.directory import SweepDirectory


def _sweep(tmp_path: pathlib.Path, *words: str, text: str = sweeps.CONFIG) -> int:
  return main(['sweep', f'--config={sweeps.write_config(tmp_path, text)}',
               f'--workdir={tmp_path / "sweep"}', *words])


def test_a_plan_shows_everything_and_starts_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert _sweep(tmp_path, '--plan', '--grid', 'total_steps=4,6') == 0
  out = capsys.readouterr().out
  assert not (tmp_path / 'sweep').exists()
  lines = out.splitlines()
  assert len([line for line in lines if line.endswith('to do')]) == 2 * 4
  assert len([line for line in lines if line.endswith('waits')]) == 2 * 2
  # Search: 2 tasks x 2 rates x (4 + 6) steps; 2 x 2 winners of at most 6.
  assert 'left    up to 64 steps, 1,024 images' in out
  assert 'unknown until a first cell has finished' in out


@pytest.mark.parametrize('count', [2, 3])
def test_plans_of_all_shards_are_the_sweep(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
  def cells_of(*words: str) -> list[list[str]]:
    assert _sweep(tmp_path, '--plan', '--grid', 'total_steps=4,6', *words) == 0
    out = capsys.readouterr().out
    return [line.split() for line in out.splitlines()
            if line.endswith(('to do', 'waits'))]
  whole = cells_of()
  shares = [cells_of(f'--shard={i}/{count}') for i in range(count)]
  dealt = [row for share in shares for row in share if row[1] == 'search']
  assert sorted(dealt) == sorted(row for row in whole if row[1] == 'search')
  # Two tasks: dealt by task to two workers, by cell to three, when anybody may
  # retrain the winners.
  assert len({row[0] for row in shares[0]}) == (1 if count == 2 else 2)
  retrained = sum(row[1] == 'final' for share in shares for row in share)
  assert retrained == (4 if count == 2 else 3 * 4)


def test_a_plan_knows_what_is_done_and_how_long_it_took(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
  sweep = sweeps.load(tmp_path)
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweep)
  first = cells.first_stage(sweep, sweep.tasks['few'])
  for cell in first:
    directory.results.folder(cell).mkdir(parents=True)
  directory.results.add(first[0], sweeps.result(
      first[0], steps=4, seconds=40.0, val_accuracy=0.5))
  directory.results.write_error(first[1], {'type': '', 'message': 'x', 'traceback': ''})
  assert _sweep(tmp_path, '--plan') == 0
  out = capsys.readouterr().out
  assert 'cells   8, of which 1 are finished and 7 are left' in out
  # Seven cells of 4 steps at 10 seconds each.
  assert 'time    4:40 on one worker' in out
  assert out.splitlines()[2].endswith('failed')


@pytest.mark.parametrize('words, message', [
    (['--tasks=fwe'], "'fwe'.*Did you mean few"),
    (['--grid', 'optimizer.rate=1'], 'Unknown config key config.optimizer.rate'),
    (['--shard=2/2'], '--shard=2/2 is no share'),
    (['--plan', '--shard=2/2'], '--shard=2/2 is no share'),
    (['--keep_checkpoints=some'], 'choose one of final, all, none'),
    (['--plan', '--report'], 'either --plan or --report'),
    (['--report'], 'holds no sweep'),
    (['--config.batch_size=0'], 'batch_size is 0'),
    (['--config.model.variant=X/16'], 'X/16'),
])
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], words: list[str],
    message: str) -> None:
  import re
  assert _sweep(tmp_path, *words) == 1
  err = capsys.readouterr().err
  assert err.startswith('vit_jax sweep: error: ') and re.search(message, err), err
  assert not (tmp_path / 'sweep').exists()


def test_a_config_is_needed_except_for_a_report(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert main(['sweep', f'--workdir={tmp_path}']) == 1
  assert 'Only --report does without' in capsys.readouterr().err


def test_all_missing_data_sets_are_listed_at_once(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  text = sweeps.CONFIG.split('def get_sweep')[0] + (
      'def get_sweep():\n'
      '  return dict(tasks={name: {"search": {"data.name": name}}\n'
      '                     for name in ("digits", "cifar10", "dtd", "resisc45")})\n')
  assert _sweep(tmp_path, text=text) == 1
  err = capsys.readouterr().err
  assert '3 data set(s) of this sweep are not prepared' in err
  for text in ("tfds.builder('cifar10'", "tfds.builder('dtd'", 'NWPU-RESISC45',
               '--tasks=digits'):
    assert text in err
  assert not (tmp_path / 'sweep').exists()


def test_a_report_needs_the_directory_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
  SweepDirectory(str(tmp_path / 'sweep')).claim(sweeps.load(tmp_path))
  assert main(['sweep', f'--workdir={tmp_path / "sweep"}', '--report']) == 0
  assert '0 of 8 cells are finished' in capsys.readouterr().out
  assert (tmp_path / 'sweep' / 'report.html').exists()
