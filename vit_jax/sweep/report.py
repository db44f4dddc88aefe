"""A sweep's report: report.md, report.html with its plot, results.csv, results.json."""

import pathlib
from collections.abc import Mapping

from vit_jax.runtime import files
from vit_jax.sweep import pages, plot, published
from vit_jax.sweep.cells import settings_text
from vit_jax.sweep.directory import SweepDirectory
from vit_jax.sweep.pages import Block, Heading, Image, Paragraph, Table
from vit_jax.sweep.published import PublishedResult
from vit_jax.sweep.selection import TaskSelection
from vit_jax.sweep.summary import (
  Mean,
  Summary,
  choice_text,
  in_percent,
  metric_text,
  summarize,
  to_csv,
  to_json,
)

MARKDOWN, HTML, PLOT = 'report.md', 'report.html', 'report.png'
CSV, JSON = 'results.csv', 'results.json'


def write(directory: SweepDirectory) -> Summary:
  """Writes all files of the report with what is finished, replacing older ones.

  Raises:
    UserError: if the directory holds no sweep.
  """
  sweep = directory.read_existing()
  summary = summarize(sweep, directory.results)
  path = directory.path
  files.write_json(path / JSON, to_json(summary))
  files.write_text(path / CSV, to_csv(summary))
  plotted = plot.draw(summary, path / PLOT)
  title = f'Sweep {path.resolve().name}: {sweep.report}'
  blocks = _blocks(summary, title, path / PLOT if plotted else None)
  files.write_text(path / MARKDOWN, pages.to_markdown(blocks))
  files.write_text(path / HTML, pages.to_html(blocks, title))
  return summary


def _blocks(summary: Summary, title: str, image: pathlib.Path | None) -> list[Block]:
  sweep = summary.sweep
  blocks: list[Block] = [Heading(title, 1), Paragraph(_opening(summary))]
  if image:
    blocks.append(Image(image, f'{sweep.report} by task, and the scores of the search'))
  blocks += [Heading('Tasks'), _task_table(summary)]
  searched = [s for s in summary.selections if s.searched]
  optimistic = [s.task.name for s in searched if s.selected_by == sweep.report]
  if optimistic:
    blocks.append(Paragraph(
        f'Of {", ".join(optimistic)} the setting was selected by the very metric that '
        'is reported, so the number is higher than on new data.'))
  if summary.groups or len(sweep.tasks) > 1:
    blocks += [Heading('Means'), _mean_table(summary)]
    if summary.overall.partial:
      blocks.append(Paragraph(
          'A partial mean is over the finished tasks alone, and not comparable with a '
          'mean over all of them.'))
  blocks += _published(summary)
  if searched:
    blocks += [Heading('Search'), _search_table(searched)]
  return [*blocks, *_troubles(summary)]


def _opening(summary: Summary) -> str:
  sweep = summary.sweep
  unit = ' in percent' if in_percent(sweep.report) else ''
  grid = '; '.join(f'{key} in {", ".join(map(str, values))}'
                   for key, values in sweep.grid.items())
  state = ('All' if summary.finished == summary.total else
           f'Partial: {summary.finished} of')
  return (f'{sweep.report}{unit}, the median over {sweep.seeds} seed(s), of '
          f'settings selected by {sweep.select}. Grid: {grid or "one point"}. '
          f'{state} {summary.total} cells are finished.')


def _task_table(summary: Summary) -> Table:
  metric = summary.sweep.report
  grouped = bool(summary.groups)
  rows = []
  for s in summary.selections:
    spread = '-'
    if s.values:
      spread = (f'{metric_text(metric, min(s.values))} to '
                f'{metric_text(metric, max(s.values))}')
    score = '-' if s.score is None else (
        f'{metric_text(s.selected_by, s.score)} ({s.selected_by})')
    rows.append((
        s.task.name, *([s.task.group] if grouped else []),
        metric_text(metric, s.median), spread,
        f'{len(s.values)} of {summary.sweep.seeds}', choice_text(s), score))
  header = ('task', *(['group'] if grouped else []), 'median', 'lowest to highest',
            'seeds', 'settings', 'selected by')
  return Table(header, rows, numeric=(1 + grouped, 2 + grouped))


def _mean_table(summary: Summary) -> Table:
  metric = summary.sweep.report
  rows = []
  for mean in [*summary.groups, summary.overall]:
    partial = ' (partial)' if mean.value is not None and mean.partial else ''
    spread = (' to '.join(metric_text(metric, value) for value in mean.spread)
              if mean.spread else '-')
    rows.append((
        'all tasks' if mean is summary.overall else mean.name,
        f'{mean.complete} of {mean.total}', metric_text(metric, mean.value) + partial,
        spread))
  return Table(('mean over', 'tasks', 'mean of the medians', 'means of single seeds'),
               rows, numeric=(2, 3), strong=(len(rows) - 1,))


def _published(summary: Summary) -> list[Block]:
  rows = published.rows(summary.sweep.benchmark)
  if not rows:
    return []
  return [
      Heading('Published results'),
      Paragraph('Not measured here: accuracies in percent as their sources give '
                'them, by other code, on other hardware, partly by other protocols. '
                'The score is the unweighted mean over all tasks. Group means of '
                'rows that are also given by task are computed from the tasks.'),
      _published_table(summary, rows),
      _published_tasks(summary, [row for row in rows if row.tasks])]


def _published_table(summary: Summary, rows: list[PublishedResult]) -> Table:
  groups = [mean.name for mean in summary.groups]
  def whole(mean: Mean) -> str:
    return '-' if mean.partial else metric_text(summary.sweep.report, mean.value)
  table = [('this sweep', 'measured here', *(whole(m) for m in summary.groups),
            whole(summary.overall), '')]
  for row in rows:
    spread = f' ± {row.spread:.2f}' if row.spread else ''
    means = row.groups or _group_means(summary, row)
    table.append((row.model, 'published', *(
        f'{means[g]:.2f}' if g in means else '-' for g in groups),
        f'{row.score:.2f}{spread}', row.source))
  columns = tuple(range(2, 3 + len(groups)))
  return Table(('model', 'status', *groups, 'score', 'source'), table, columns,
               strong=(0,))


def _group_means(summary: Summary, row: PublishedResult) -> Mapping[str, float]:
  """Of a row that gives its tasks but no groups."""
  groups: dict[str, list[float]] = {}
  for task in summary.sweep.tasks.values():
    if task.name in row.tasks:
      groups.setdefault(task.group, []).append(row.tasks[task.name])
  return {group: sum(values) / len(values) for group, values in groups.items()}


def _published_tasks(summary: Summary, rows: list[PublishedResult]) -> Table:
  found = {s.task.name: s for s in summary.selections}
  table = []
  for name in summary.sweep.tasks:
    ours = found[name].median if name in found and found[name].complete else None
    table.append((name, metric_text(summary.sweep.report, ours), *(
        f'{row.tasks[name]:.1f}' if name in row.tasks else '-' for row in rows)))
  return Table(('task', 'this sweep', *(f'{row.model} (published)' for row in rows)),
               table, tuple(range(1, 2 + len(rows))))


def _search_table(searched: list[TaskSelection]) -> Table:
  rows, strong = [], []
  for s in searched:
    for point in s.points:
      chosen = s.winner == point.settings
      if chosen:
        strong.append(len(rows))
      rows.append((s.task.name, settings_text(point.settings), str(len(point.cells)),
                   s.selected_by, metric_text(s.selected_by, point.score),
                   'selected' if chosen else ''))
  return Table(('task', 'settings', 'runs', 'metric', 'median', ''), rows,
               numeric=(2, 4), strong=tuple(strong))


def _troubles(summary: Summary) -> list[Block]:
  rows = [(outcome.cell.title, outcome.state,
           outcome.trouble.splitlines()[0] if outcome.trouble else '')
          for outcome in summary.outcomes if outcome.state in ('diverged', 'failed')]
  if not rows:
    return []
  return [Heading('Runs without a number'), Table(('cell', 'state', 'reason'), rows)]
