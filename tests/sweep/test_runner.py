"""A worker's turns: what it runs, in which order, and what survives what."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import sweeps

from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import Stopped
from vit_jax.sweep import cells, report, runner, schedule
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResult, SweepDirectory, hold_lock, is_locked
from vit_jax.sweep.summary import Summary
from vit_jax.training import loop
from vit_jax.training.metrics import NonFiniteError
from vit_jax.training.reuse import Reuse

Finished = tuple[SweepDefinition, SweepDirectory]


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
  """(sweep, directory) of a sweep that has really been trained."""
  tmp = tmp_path_factory.mktemp('finished')
  sweep = sweeps.load(tmp, tasks='few')
  directory = SweepDirectory(str(tmp / 'sweep'))
  runner.run(sweep, directory)
  return sweep, directory


def _cells(sweep: SweepDefinition, directory: SweepDirectory) -> list[Cell]:
  rows = schedule.expected_cells(sweep, directory.results)
  assert all(expected.known for expected in rows)
  return [expected.cell for expected in rows]


def _result(directory: SweepDirectory, cell: Cell) -> CellResult:
  result = directory.results.get(cell)
  assert result is not None
  return result


def test_a_cell_is_a_plain_run(finished: Finished, tmp_path: pathlib.Path) -> None:
  sweep, directory = finished
  for cell in _cells(sweep, directory)[1:3]:
    again = loop.train(cell.config, str(tmp_path / cell.id))
    assert _result(directory, cell).metrics == again


def test_what_a_sweep_leaves(finished: Finished) -> None:
  sweep, directory = finished
  rows = _cells(sweep, directory)
  assert [c.stage for c in rows] == ['search', 'search', 'final', 'final']
  for cell in rows:
    path = directory.results.folder(cell)
    result = json.loads((path / 'result.json').read_text())
    assert result['id'] == cell.id and result['steps'] == 4 and result['seconds'] > 0
    assert result['versions']['jax'] and not result['diverged']
    assert set(result['metrics']) == (
        {'val/accuracy', 'val/loss'} if cell.stage == 'search' else
        {'test/accuracy', 'test/loss'})
    # Those of the search have done their duty.
    assert (path / 'checkpoints' / '4').exists() == (cell.stage == 'final')
    assert f'step 4  {"val" if cell.stage == "search" else "test"}/accuracy' in (
        directory.log(cell).read_text())
  for name in ('report.md', 'report.html', 'report.png', 'results.csv',
               'results.json'):
    assert (directory.path / name).stat().st_size > 500


def test_the_winner_is_the_better_one(finished: Finished) -> None:
  sweep, directory = finished
  rows = _cells(sweep, directory)
  scores = [_result(directory, c).metrics['val/accuracy'] for c in rows[:2]]
  best = rows[scores.index(max(scores))]
  assert all(c.settings == best.settings for c in rows[2:])


def test_running_again_trains_nothing(
    finished: Finished, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]) -> None:
  sweep, directory = finished
  before = {p: p.stat().st_mtime_ns for p in directory.path.rglob('result.json')}
  monkeypatch.setattr(loop, 'train', lambda *_: pytest.fail('trained again'))
  runner.run(sweep, SweepDirectory(str(directory.path)))
  assert '4 of 4 cells are finished' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_diverging_setting_loses(tmp_path: pathlib.Path) -> None:
  sweep = sweeps.load(
      tmp_path, '--config.optimizer.clip_norm=0.0', tasks='few', seeds=1,
      grid=('optimizer.learning_rate=1e30,0.1',))
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  sweep = dataclasses.replace(sweep, seeds=1)
  runner.run(sweep, directory)
  first, second, final = _cells(sweep, directory)
  assert 'diverged at step' in _result(directory, first).diverged
  assert not _result(directory, second).diverged
  assert final.settings == second.settings
  assert 'diverged' in (directory.path / 'report.md').read_text()


class Trainer:
  """Stands in for `train` where only the order of things is tested."""

  def __init__(
      self, monkeypatch: pytest.MonkeyPatch,
      act: Callable[[Config, 'Trainer'], None] | None = None) -> None:
    self.calls: list[str] = []
    self.reuses: set[Reuse] = set()
    self._act = act
    monkeypatch.setattr(loop, 'train', self)

  def __call__(self, config: Config, workdir: str, reuse: Reuse) -> dict[str, float]:
    self.calls.append(pathlib.Path(workdir).name)
    self.reuses.add(reuse)
    print('hello from the run')
    (pathlib.Path(workdir) / 'checkpoints' / '10').mkdir(parents=True, exist_ok=True)
    if self._act:
      self._act(config, self)
    metrics = {}
    if config.data.val_split:
      metrics['val/accuracy'] = config.optimizer.learning_rate
    if config.data.test_split:
      metrics['test/accuracy'] = config.seed / 10
    return metrics


def _run(
    tmp_path: pathlib.Path, sweep: SweepDefinition, **settings: Any) -> SweepDirectory:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  runner.run(sweep, directory, **settings)
  return directory


def test_runs_share_what_they_can_and_keep_quiet(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]) -> None:
  trainer = Trainer(monkeypatch)
  directory = _run(tmp_path, sweeps.make(('a', 'b'), seeds=3))
  assert len(trainer.reuses) == 1 and None not in trainer.reuses
  # Task by task, so that what a task has compiled and decoded is used at once.
  assert [name.split('_')[0] for name in trainer.calls] == 5 * ['a'] + 5 * ['b']
  out = capsys.readouterr().out
  assert 'hello' not in out and 'cell 10/10  b final learning_rate=0.1 seed=2' in out
  assert 'hello' in next((directory.path / 'logs').iterdir()).read_text()


@pytest.mark.parametrize('point', range(5))
def test_a_stop_ends_the_sweep_and_the_next_call_does_the_rest(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
  def stop(config: Config, trainer: Trainer) -> None:
    if len(trainer.calls) == point + 1:
      raise Stopped(3, 10, 'SIGTERM')
  sweep = sweeps.make(seeds=3)
  first = Trainer(monkeypatch, stop)
  with pytest.raises(Stopped):
    _run(tmp_path, sweep)
  second = Trainer(monkeypatch)
  directory = _run(tmp_path, sweep)
  assert first.calls[-1] == second.calls[0]
  assert len(first.calls) - 1 + len(second.calls) == 5
  results = [_result(directory, c) for c in _cells(sweep, directory)]
  # Only the one that the stop hit counts as resumed.
  assert sum(r.resumed for r in results) == 1


def test_a_failure_is_kept_and_stops_no_other(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]) -> None:
  def fail(config: Config, trainer: Trainer) -> None:
    if config.optimizer.learning_rate == 0.01 and trainer.calls[-1].startswith('a'):
      raise ValueError('no such\nthing')
  sweep = sweeps.make(('a', 'b'))
  trainer = Trainer(monkeypatch, fail)
  with pytest.raises(UserError, match=r'1 of 6 cells gave no number:\n'
                     r'  a search learning_rate=0.01 seed=0: ValueError: no such'):
    _run(tmp_path, sweep)
  # The winner of a task whose search is incomplete isn't known.
  assert len(trainer.calls) == 2 + 3
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  failed = cells.first_stage(sweep, sweep.tasks['a'])[1]
  error = directory.results.error(failed)
  assert error is not None
  assert error['type'] == 'ValueError' and 'in fail' in error['traceback']
  assert 'no such\nthing' in directory.log(failed).read_text()
  assert 'ValueError: no such' not in (directory.path / 'report.md').read_text()
  assert '| failed | no such |' in (directory.path / 'report.md').read_text()
  # Mended, it is run again, and nothing else is.
  trainer = Trainer(monkeypatch)
  _run(tmp_path, sweep)
  assert [c.split('_')[:2] for c in trainer.calls] == [['a', 'search'], ['a', 'final']]
  assert directory.results.error(failed) is None
  assert not (directory.results.folder(failed) / 'error.json').exists()


def test_a_divergence_of_everything_is_an_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  def diverge(config: Config, trainer: Trainer) -> None:
    raise NonFiniteError('loss inf')
  Trainer(monkeypatch, diverge)
  with pytest.raises(UserError, match='a: diverged at every point of the grid'):
    _run(tmp_path, sweeps.make())


def test_a_diverged_final_run_is_an_error_and_no_number(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  def diverge(config: Config, trainer: Trainer) -> None:
    if config.data.test_split and config.seed == 1:
      raise NonFiniteError('loss inf')
  Trainer(monkeypatch, diverge)
  with pytest.raises(UserError, match='a final .*seed=1: loss inf'):
    _run(tmp_path, sweeps.make(seeds=3))
  values = json.loads((tmp_path / 'sweep' / 'results.json').read_text())
  assert not values['tasks']['a']['complete'] and values['all']['value'] is None


def test_a_metric_that_no_run_measures_is_explained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  Trainer(monkeypatch)
  with pytest.raises(UserError, match='measured val/accuracy, but the sweep needs '
                     'val/auc'):
    _run(tmp_path, sweeps.make(select='val/auc'))


def test_a_cell_of_another_worker_is_left_to_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]) -> None:
  sweep = sweeps.make(('a', 'b'))
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweep)
  held = cells.first_stage(sweep, sweep.tasks['a'])[0]
  trainer = Trainer(monkeypatch)
  with hold_lock(directory.results.folder(held)):
    _run(tmp_path, sweep)
  assert held.id not in trainer.calls and len(trainer.calls) == 1 + 3
  out = capsys.readouterr().out
  assert f'left to them:\n  {held.title}: process ' in out
  trainer = Trainer(monkeypatch)
  _run(tmp_path, sweep)
  assert trainer.calls[0] == held.id and len(trainer.calls) == 2


def test_two_workers_do_everything_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  sweep = sweeps.make(('a',), seeds=2)
  trainer = Trainer(monkeypatch)
  _, directory = [_run(tmp_path, sweep, shard=(worker, 2)) for worker in range(2)]
  assert len(trainer.calls) == len(set(trainer.calls)) == 4
  assert len([c for c in _cells(sweep, directory) if directory.results.get(c)]) == 4


def test_a_report_is_read_and_written_by_one_worker_at_a_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  Trainer(monkeypatch)
  locked, write = [], report.write
  def watched(directory: SweepDirectory) -> Summary:
    locked.append(is_locked(directory.path))
    return write(directory)
  monkeypatch.setattr(report, 'write', watched)
  directory = _run(tmp_path, sweeps.make())
  assert locked == [True] and not is_locked(directory.path)


def test_more_points_and_seeds_keep_what_is_finished(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  Trainer(monkeypatch)
  _run(tmp_path, sweeps.make())
  trainer = Trainer(monkeypatch)
  _run(tmp_path, sweeps.make(grid={'optimizer.learning_rate': (0.5,)}, seeds=2))
  # The new point wins, so it is what is retrained.
  assert [c.split('_seed')[0] for c in trainer.calls] == [
      'a_search_learning_rate-0.5', *2 * ['a_final_learning_rate-0.5']]


@pytest.mark.parametrize('keep, final, kept', [
    ('final', True, 2), ('all', True, 4), ('none', True, 0),
    ('final', False, 2), ('all', False, 4), ('none', False, 0)])
def test_whose_checkpoints_stay(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, keep: str, final: bool,
    kept: int) -> None:
  Trainer(monkeypatch)
  directory = _run(tmp_path, sweeps.make(final=final, seeds=2), keep_checkpoints=keep)
  found = sorted(p.parent.parent.name for p in directory.path.rglob('checkpoints/10'))
  assert len(found) == kept
  if keep == 'final':
    assert all(('final' if final else 'learning_rate-0.1_') in name for name in found)
