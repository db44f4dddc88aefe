"""Selection and aggregation against numbers worked out by hand, and published ones."""

import csv
import io
import json
import re
import statistics

import pytest
import sweeps

from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, published, report, standings, summary, vtab
from vit_jax.sweep.folder import Folder

RATES = {'optimizer.learning_rate': (0.1, 0.2, 0.3)}


def _searched(scores, metric='val_accuracy', **definition):
  """The standing after a search with these scores; None means diverged."""
  found = sweeps.make(grid=RATES, **definition)
  results = sweeps.Kept()
  first = cells.first_stage(found, found.tasks['a'])
  for cell, score in zip(first, scores, strict=False):
    if score is None:
      results.put(cell, diverged='loss inf')
    else:
      results.put(cell, **{metric: score})
  return standings.of_task(found, found.tasks['a'], results)


@pytest.mark.parametrize('scores, metric, winner, score', [
    ((0.1, 0.9, 0.5), 'val_accuracy', 0.2, 0.9),
    # The first of equal ones.
    ((0.1, 0.9, 0.9), 'val_accuracy', 0.2, 0.9),
    ((0.5, 0.9, 0.1), 'val_loss', 0.3, 0.1),
    ((None, 0.2, 0.3), 'val_accuracy', 0.3, 0.3),
])
def test_the_winner(scores, metric, winner, score):
  standing = _searched(scores, metric, select=metric.replace('_', '/'))
  assert standing.winner == {'optimizer.learning_rate': winner}
  assert standing.score == score
  assert len(standing.finals) == 1 and not standing.complete


def test_no_winner_before_the_search_is_complete():
  standing = _searched((0.1, 0.9))
  assert not standing.decided and standing.winner is None and standing.finals == []


def test_no_winner_if_everything_diverged():
  standing = _searched((None, None, None))
  assert standing.decided and standing.winner is None


def test_one_stage_selects_by_the_median_over_seeds():
  found = sweeps.make(grid=RATES, final=False, seeds=3)
  results = sweeps.Kept()
  scores = [(0.5, 0.5, 0.5), (0.9, 0.4, 0.4), (0.6, 0.6, 0.1)]
  for cell, score in zip(cells.first_stage(found, found.tasks['a']),
                         sum(scores, ()), strict=True):
    results.put(cell, val_accuracy=score, test_accuracy=score / 2)
  standing = standings.of_task(found, found.tasks['a'], results)
  assert standing.winner == {'optimizer.learning_rate': 0.3}
  assert standing.values == [0.3, 0.3, 0.05] and standing.median == 0.3


def test_a_run_without_a_validation_split_is_selected_by_what_it_reports():
  found = sweeps.make(final=False)
  found.tasks['a'].search['data.val_split'] = ''
  results = sweeps.Kept()
  for cell, score in zip(
      cells.first_stage(found, found.tasks['a']), (0.2, 0.3), strict=True):
    results.put(cell, test_accuracy=score)
  standing = standings.of_task(found, found.tasks['a'], results)
  assert standing.selected_by == 'test/accuracy' and standing.median == 0.3


def _write(tmp_path, accuracies, seeds=3, skip=(), benchmark='vtab-1k'):
  """A finished VTAB sweep: the median of a task's seeds is its accuracy."""
  groups = {name: task.group for name, task in vtab.TASKS.items()}
  found = sweeps.make(groups, seeds=seeds, benchmark=benchmark)
  folder = Folder(str(tmp_path / 'sweep'))
  found = folder.claim(found)
  def put(cell, **metrics):
    folder.results.folder(cell).mkdir(parents=True)
    folder.results.add(cell, sweeps.result(cell, **metrics))
  for name, task in found.tasks.items():
    if name in skip:
      continue
    for cell, score in zip(cells.first_stage(found, task), (0.1, 0.2), strict=True):
      put(cell, val_accuracy=score)
    for k, cell in enumerate(standings.of_task(found, task, folder.results).finals):
      put(cell, test_accuracy=(accuracies[name] + (-2, 0, 1)[k]) / 100)
  return folder


def _published(model):
  return next(row for row in published.rows('vtab-1k') if row.model == model)


def test_means_are_those_that_the_benchmark_publishes(tmp_path):
  # ResNet50 of the benchmark's own results: its accuracies by task must give its means.
  row = _published('ResNet50, ImageNet')
  numbers = report.write(_write(tmp_path, row.tasks))
  for mean in numbers.groups:
    assert 100 * mean.value == pytest.approx(row.groups[mean.name], abs=0.006)
  assert [(m.name, m.total) for m in numbers.groups] == [
      ('natural', 7), ('specialized', 4), ('structured', 8)]
  assert 100 * numbers.overall.value == pytest.approx(row.score, abs=0.006)
  # Every task has the same distances to its median.
  low, high = numbers.overall.spread
  assert 100 * (numbers.overall.value - low) == pytest.approx(2)
  assert 100 * (high - numbers.overall.value) == pytest.approx(1)
  page = (tmp_path / 'sweep' / 'report.md').read_text()
  assert re.search(r'all tasks\*\* \| \*\*19 of 19\*\* \| \*\*66.37\*\*', page)


def test_a_mean_with_missing_tasks_is_not_given_as_the_benchmarks(tmp_path):
  row = _published('ResNet50, ImageNet')
  folder = _write(tmp_path, row.tasks, skip=('svhn',))
  numbers = report.write(folder)
  others = [v for name, v in row.tasks.items() if name != 'svhn']
  assert 100 * numbers.overall.value == pytest.approx(statistics.fmean(others))
  assert numbers.overall.partial and numbers.overall.spread is None
  values = json.loads((folder.path / 'results.json').read_text())
  assert values['all']['value'] is None and values['all']['tasks'] == 18
  assert values['groups']['specialized']['value'] is not None
  page = (folder.path / 'report.md').read_text()
  assert '18 of 19' in page and '(partial)' in page
  ours = next(line for line in page.splitlines() if line.startswith('| **this sweep'))
  assert ours.count('**-**') == 2  # Natural and the score; nothing partial is compared.


@pytest.mark.parametrize('row', published.rows('vtab-1k'), ids=lambda row: row.model)
def test_published_rows_agree_with_themselves(row):
  if row.groups:
    sizes = {'natural': 7, 'specialized': 4, 'structured': 8}
    mean = sum(row.groups[g] * n for g, n in sizes.items()) / 19
    assert mean == pytest.approx(row.score, abs=0.015)
  if row.tasks:
    assert set(row.tasks) == set(vtab.TASKS)
    assert statistics.fmean(row.tasks.values()) == pytest.approx(row.score, abs=0.016)
  assert row.source


def test_published_rows_are_marked_and_only_shown_where_they_belong(tmp_path):
  row = _published('ResNet50, ImageNet')
  page = report.write(_write(tmp_path / 'a', row.tasks)) and (
      tmp_path / 'a/sweep/report.md').read_text()
  lines = [line for line in page.splitlines() if 'ViT-H/14' in line]
  assert lines and all('published' in line for line in lines)
  report.write(_write(tmp_path / 'b', row.tasks, benchmark=''))
  assert 'ViT-H/14' not in (tmp_path / 'b/sweep/report.md').read_text()


def test_files_of_a_report(tmp_path):
  folder = _write(tmp_path, _published('ResNet50, ImageNet').tasks)
  # A failure and a divergence, with characters that mean something in the pages.
  found = folder.read()
  cell = cells.final_stage(
      found, found.tasks['svhn'], {'optimizer.learning_rate': 0.01})
  (folder.results.folder(cell[0]) / 'result.json').unlink()
  folder.results.write_error(cell[0], {
      'type': 'ValueError', 'message': '<b>a | b</b>\nmore', 'traceback': ''})
  folder = Folder(str(folder.path))
  numbers = report.write(folder)
  assert (numbers.finished, numbers.total) == (19 * 5 - 1, 19 * 5)
  rows = list(csv.DictReader(io.StringIO((folder.path / 'results.csv').read_text())))
  assert len(rows) == 19 * 5
  assert {row['state'] for row in rows} == {'finished', 'failed'}
  chosen = [r for r in rows if r['task'] == 'dtd' and r['selected'] == '1'
            and r['stage'] == 'final']
  assert sorted(float(r['test/accuracy']) for r in chosen) == pytest.approx(
      [0.6401, 0.6601, 0.6701])
  assert all(float(r['optimizer.learning_rate']) == 0.01 for r in chosen)
  markdown = (folder.path / 'report.md').read_text()
  page = (folder.path / 'report.html').read_text()
  assert '<b>a \\| b</b>' in markdown
  assert '&lt;b&gt;a | b&lt;/b&gt;' in page and '<b>' not in page
  assert 'src="data:image/png;base64,' in page and 'http-equiv' not in page
  from PIL import Image
  with Image.open(folder.path / 'report.png') as image:
    assert image.width > 800 and len(image.convert('RGB').getcolors(1 << 24)) > 20


def test_a_report_before_anything_is_finished(tmp_path):
  folder = Folder(str(tmp_path / 'sweep'))
  folder.claim(sweeps.make())
  numbers = report.write(folder)
  assert numbers.finished == 0 and numbers.overall.value is None
  assert 'Partial: 0 of 3 cells' in (folder.path / 'report.md').read_text()
  assert not (folder.path / 'report.png').exists()
  assert 'not selected yet' in report.brief(numbers)


def test_selection_by_the_reported_metric_is_admitted(tmp_path):
  folder = Folder(str(tmp_path / 'sweep'))
  folder.claim(sweeps.make(final=False, select='test/accuracy'))
  report.write(folder)
  assert 'higher than on new data' in (folder.path / 'report.md').read_text()


def test_a_directory_without_a_sweep_has_no_report(tmp_path):
  with pytest.raises(UserError, match='holds no sweep'):
    report.write(Folder(str(tmp_path / 'nothing')))


def test_pace_predicts_from_cells_of_the_same_task():
  from vit_jax.sweep import timing
  found = sweeps.make(('a', 'b'))
  results = sweeps.Kept()
  a, b = (cells.first_stage(found, found.tasks[name]) for name in 'ab')
  assert timing.Pace(a + b, results).total(a) is None
  results.put(a[0], steps=10, seconds=20.0, val_accuracy=0.5)
  pace = timing.Pace(a + b, results)
  assert pace.seconds(a[1]) == 20 and pace.seconds(b[0]) == 20
  results.put(b[0], steps=10, seconds=50.0, val_accuracy=0.5)
  pace = timing.Pace(a + b, results)
  assert pace.total([a[1], b[1]]) == 20 + 50


def test_summary_counts_cells_that_are_not_known_yet():
  found = sweeps.make(('a', 'b'), seeds=3)
  numbers = summary.summarize(found, sweeps.Kept())
  assert (numbers.finished, numbers.total, numbers.waiting) == (0, 2 * (2 + 3), 6)
