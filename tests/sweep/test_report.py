"""Aggregation against numbers worked out by hand, and published ones."""

import csv
import io
import json
import pathlib
import re
import statistics
from collections.abc import Mapping
from typing import Any

import pytest
import sweeps

from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, console, published, report, selection, vtab
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.directory import SweepDirectory
from vit_jax.sweep.published import PublishedResult
from vit_jax.sweep.summary import summarize


def _write(
    tmp_path: pathlib.Path, accuracies: Mapping[str, float], seeds: int = 3,
    skip: tuple[str, ...] = (), benchmark: str = 'vtab-1k') -> SweepDirectory:
  """A finished VTAB sweep: the median of a task's seeds is its accuracy."""
  groups = {name: task.group for name, task in vtab.TASKS.items()}
  found = sweeps.make(groups, seeds=seeds, benchmark=benchmark)
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  found = directory.claim(found)
  def put(cell: Cell, **metrics: Any) -> None:
    directory.results.folder(cell).mkdir(parents=True)
    directory.results.add(cell, sweeps.result(cell, **metrics))
  for name, task in found.tasks.items():
    if name in skip:
      continue
    for cell, score in zip(cells.first_stage(found, task), (0.1, 0.2), strict=True):
      put(cell, val_accuracy=score)
    for k, cell in enumerate(selection.select(found, task, directory.results).finals):
      put(cell, test_accuracy=(accuracies[name] + (-2, 0, 1)[k]) / 100)
  return directory


def _published(model: str) -> PublishedResult:
  return next(row for row in published.rows('vtab-1k') if row.model == model)


def _percent(accuracy: float | None) -> float:
  assert accuracy is not None
  return 100 * accuracy


def test_means_are_those_that_the_benchmark_publishes(tmp_path: pathlib.Path) -> None:
  # ResNet50 of the benchmark's own results: its accuracies by task must give its means.
  row = _published('ResNet50, ImageNet')
  summary = report.write(_write(tmp_path, row.tasks))
  for mean in summary.groups:
    assert _percent(mean.value) == pytest.approx(row.groups[mean.name], abs=0.006)
  assert [(m.name, m.total) for m in summary.groups] == [
      ('natural', 7), ('specialized', 4), ('structured', 8)]
  ours = _percent(summary.overall.value)
  assert ours == pytest.approx(row.score, abs=0.006)
  # Every task has the same distances to its median.
  assert summary.overall.spread is not None
  low, high = map(_percent, summary.overall.spread)
  assert ours - low == pytest.approx(2) and high - ours == pytest.approx(1)
  page = (tmp_path / 'sweep' / 'report.md').read_text()
  assert re.search(r'all tasks\*\* \| \*\*19 of 19\*\* \| \*\*66.37\*\*', page)


def test_a_mean_with_missing_tasks_is_not_given_as_the_benchmarks(
    tmp_path: pathlib.Path) -> None:
  row = _published('ResNet50, ImageNet')
  directory = _write(tmp_path, row.tasks, skip=('svhn',))
  summary = report.write(directory)
  others = [v for name, v in row.tasks.items() if name != 'svhn']
  assert _percent(summary.overall.value) == pytest.approx(
      statistics.fmean(others))
  assert summary.overall.partial and summary.overall.spread is None
  values = json.loads((directory.path / 'results.json').read_text())
  assert values['all']['value'] is None and values['all']['tasks'] == 18
  assert values['groups']['specialized']['value'] is not None
  page = (directory.path / 'report.md').read_text()
  assert '18 of 19' in page and '(partial)' in page
  ours = next(line for line in page.splitlines() if line.startswith('| **this sweep'))
  assert ours.count('**-**') == 2  # Natural and the score; nothing partial is compared.


@pytest.mark.parametrize('row', published.rows('vtab-1k'), ids=lambda row: row.model)
def test_published_rows_agree_with_themselves(row: PublishedResult) -> None:
  if row.groups:
    sizes = {'natural': 7, 'specialized': 4, 'structured': 8}
    mean = sum(row.groups[g] * n for g, n in sizes.items()) / 19
    assert mean == pytest.approx(row.score, abs=0.015)
  if row.tasks:
    assert set(row.tasks) == set(vtab.TASKS)
    assert statistics.fmean(row.tasks.values()) == pytest.approx(row.score, abs=0.016)
  assert row.source


def test_published_rows_are_marked_and_only_shown_where_they_belong(
    tmp_path: pathlib.Path) -> None:
  row = _published('ResNet50, ImageNet')
  page = report.write(_write(tmp_path / 'a', row.tasks)) and (
      tmp_path / 'a/sweep/report.md').read_text()
  lines = [line for line in page.splitlines() if 'ViT-H/14' in line]
  assert lines and all('published' in line for line in lines)
  report.write(_write(tmp_path / 'b', row.tasks, benchmark=''))
  assert 'ViT-H/14' not in (tmp_path / 'b/sweep/report.md').read_text()


def test_files_of_a_report(tmp_path: pathlib.Path) -> None:
  directory = _write(tmp_path, _published('ResNet50, ImageNet').tasks)
  # A failure and a divergence, with characters that mean something in the pages.
  found = directory.read_existing()
  cell = cells.final_stage(
      found, found.tasks['svhn'], {'optimizer.learning_rate': 0.01})
  (directory.results.folder(cell[0]) / 'result.json').unlink()
  directory.results.write_error(cell[0], {
      'type': 'ValueError', 'message': '<b>a | b</b>\nmore', 'traceback': ''})
  directory = SweepDirectory(str(directory.path))
  summary = report.write(directory)
  assert (summary.finished, summary.total) == (19 * 5 - 1, 19 * 5)
  rows = list(csv.DictReader(io.StringIO((directory.path / 'results.csv').read_text())))
  assert len(rows) == 19 * 5
  assert {row['state'] for row in rows} == {'finished', 'failed'}
  chosen = [r for r in rows if r['task'] == 'dtd' and r['selected'] == '1'
            and r['stage'] == 'final']
  assert sorted(float(r['test/accuracy']) for r in chosen) == pytest.approx(
      [0.6401, 0.6601, 0.6701])
  assert all(float(r['optimizer.learning_rate']) == 0.01 for r in chosen)
  markdown = (directory.path / 'report.md').read_text()
  page = (directory.path / 'report.html').read_text()
  assert '<b>a \\| b</b>' in markdown
  assert '&lt;b&gt;a | b&lt;/b&gt;' in page and '<b>' not in page
  assert 'src="data:image/png;base64,' in page and 'http-equiv' not in page
  from PIL import Image
  with Image.open(directory.path / 'report.png') as image:
    colours = image.convert('RGB').getcolors(1 << 24)
    assert image.width > 800 and colours is not None and len(colours) > 20


def test_a_report_before_anything_is_finished(tmp_path: pathlib.Path) -> None:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweeps.make())
  summary = report.write(directory)
  assert summary.finished == 0 and summary.overall.value is None
  assert 'Partial: 0 of 3 cells' in (directory.path / 'report.md').read_text()
  assert not (directory.path / 'report.png').exists()
  assert 'not selected yet' in console.brief(summary)


def test_selection_by_the_reported_metric_is_admitted(tmp_path: pathlib.Path) -> None:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweeps.make(final=False, select='test/accuracy'))
  report.write(directory)
  assert 'higher than on new data' in (directory.path / 'report.md').read_text()


def test_a_directory_without_a_sweep_has_no_report(tmp_path: pathlib.Path) -> None:
  with pytest.raises(UserError, match='holds no sweep'):
    report.write(SweepDirectory(str(tmp_path / 'nothing')))


def test_summary_counts_cells_that_are_not_known_yet() -> None:
  found = sweeps.make(('a', 'b'), seeds=3)
  summary = summarize(found, sweeps.InMemoryResults())
  assert (summary.finished, summary.total, summary.waiting) == (0, 2 * (2 + 3), 6)
