"""A sweep's report: report.md, report.html with its plot, results.csv, results.json."""

import csv
import io

from vit_jax.runtime import files
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import pages, plot, published, summary
from vit_jax.sweep.cells import shown
from vit_jax.sweep.folder import Folder
from vit_jax.sweep.pages import Heading, Image, Paragraph, Table
from vit_jax.sweep.summary import Summary

MARKDOWN, HTML, PLOT = 'report.md', 'report.html', 'report.png'
CSV, JSON = 'results.csv', 'results.json'


def write(folder: Folder) -> Summary:
  """Writes all files of the report with what is finished, replacing older ones.

  Raises:
    UserError: if the directory holds no sweep.
  """
  definition = folder.read()
  if definition is None:
    raise UserError(f'--workdir={folder.path} holds no sweep. Give the directory of a '
                    '`vit_jax sweep`.')
  numbers = summary.summarize(definition, folder.results)
  path = folder.path
  files.write_json(path / JSON, summary.to_json(numbers))
  files.write_text(path / CSV, _csv(numbers))
  plotted = plot.draw(numbers, path / PLOT)
  title = f'Sweep {path.resolve().name}: {definition.report}'
  blocks = _blocks(numbers, title, path / PLOT if plotted else None)
  files.write_text(path / MARKDOWN, pages.to_markdown(blocks))
  files.write_text(path / HTML, pages.to_html(blocks, title))
  return numbers


def number(metric: str, value: float | None) -> str:
  """'97.77' (percent) of an accuracy, four digits of anything else."""
  if value is None:
    return '-'
  return f'{100 * value:.2f}' if in_percent(metric) else f'{value:.4g}'


def in_percent(metric: str) -> bool:
  return metric.endswith('accuracy')


def brief(numbers: Summary) -> str:
  """A few lines for the terminal."""
  metric = numbers.definition.report
  width = max(len(s.task.name) for s in numbers.standings)
  lines = [f'{s.task.name:{width}}  {number(metric, s.median):>7}  {_chosen(s)}'
           for s in numbers.standings]
  for mean in [*numbers.groups, numbers.overall]:
    if mean.value is not None and mean.total > 1:
      lines.append(f'mean of {mean.name}: {number(metric, mean.value)} over '
                   f'{mean.complete} of {mean.total} tasks'
                   f'{" (partial)" if mean.partial else ""}')
  return '\n'.join(
      [f'{metric}{" in percent" if in_percent(metric) else ""}, median over '
       f'{numbers.definition.seeds} seed(s); {numbers.finished} of {numbers.total} '
       'cells are finished', *lines])


def _blocks(numbers, title, image):
  definition = numbers.definition
  blocks = [Heading(title, 1), Paragraph(_opening(numbers))]
  if image:
    blocks.append(Image(image, f'{definition.report} by task, and the scores of the '
                               'search'))
  blocks += [Heading('Tasks'), _task_table(numbers)]
  optimistic = [s.task.name for s in numbers.standings
                if len(s.points) > 1 and s.selected_by == definition.report]
  if optimistic:
    blocks.append(Paragraph(
        f'Of {", ".join(optimistic)} the setting was selected by the very metric that '
        'is reported, so the number is higher than on new data.'))
  if numbers.groups or len(definition.tasks) > 1:
    blocks += [Heading('Means'), _mean_table(numbers)]
    if numbers.overall.partial:
      blocks.append(Paragraph(
          'A partial mean is over the finished tasks alone, and not comparable with a '
          'mean over all of them.'))
  rows = published.rows(definition.benchmark)
  if rows:
    blocks += [
        Heading('Published results'),
        Paragraph('Not measured here: accuracies in percent as their sources give '
                  'them, by other code, on other hardware, partly by other protocols. '
                  'The score is the unweighted mean over all tasks. Group means of '
                  'rows that are also given by task are computed from the tasks.'),
        _published_table(numbers, rows),
        _published_tasks(numbers, [r for r in rows if r.tasks])]
  searched = [s for s in numbers.standings if len(s.points) > 1]
  if searched:
    blocks += [Heading('Search'), _search_table(searched)]
  return [*blocks, *_troubles(numbers)]


def _opening(numbers):
  definition = numbers.definition
  unit = ' in percent' if in_percent(definition.report) else ''
  grid = '; '.join(f'{key} in {", ".join(map(str, values))}'
                   for key, values in definition.grid.items())
  state = ('All' if numbers.finished == numbers.total else
           f'Partial: {numbers.finished} of')
  return (f'{definition.report}{unit}, the median over {definition.seeds} seed(s), of '
          f'settings selected by {definition.select}. Grid: {grid or "one point"}. '
          f'{state} {numbers.total} cells are finished.')


def _task_table(numbers):
  report = numbers.definition.report
  grouped = bool(numbers.groups)
  rows = []
  for s in numbers.standings:
    spread = '-'
    if s.values:
      spread = f'{number(report, min(s.values))} to {number(report, max(s.values))}'
    score = '-' if s.score is None else (
        f'{number(s.selected_by, s.score)} ({s.selected_by})')
    rows.append((
        s.task.name, *([s.task.group] if grouped else []), number(report, s.median),
        spread, f'{len(s.values)} of {numbers.definition.seeds}', _chosen(s), score))
  header = ('task', *(['group'] if grouped else []), 'median', 'lowest to highest',
            'seeds', 'settings', 'selected by')
  return Table(header, rows, numbers=(1 + grouped, 2 + grouped))


def _chosen(standing):
  if standing.winner is not None:
    return shown(standing.winner) or '-'
  return 'none: all diverged' if standing.decided else 'not selected yet'


def _mean_table(numbers):
  report = numbers.definition.report
  rows = []
  for mean in [*numbers.groups, numbers.overall]:
    spread = ' to '.join(number(report, v) for v in mean.spread) if mean.spread else '-'
    rows.append((
        'all tasks' if mean is numbers.overall else mean.name,
        f'{mean.complete} of {mean.total}',
        number(report, mean.value) + (' (partial)' if mean.value is not None
                                      and mean.partial else ''), spread))
  return Table(('mean over', 'tasks', 'mean of the medians', 'means of single seeds'),
               rows, numbers=(2, 3), strong=(len(rows) - 1,))


def _published_table(numbers, rows):
  groups = [mean.name for mean in numbers.groups]
  report = numbers.definition.report
  def whole(mean):
    return '-' if mean.partial else number(report, mean.value)
  table = [('this sweep', 'measured here', *(whole(m) for m in numbers.groups),
            whole(numbers.overall), '')]
  for row in rows:
    spread = f' ± {row.spread:.2f}' if row.spread else ''
    means = row.groups or _group_means(numbers, row)
    table.append((row.model, 'published', *(
        f'{means[g]:.2f}' if g in means else '-' for g in groups),
        f'{row.score:.2f}{spread}', row.source))
  columns = tuple(range(2, 3 + len(groups)))
  return Table(('model', 'status', *groups, 'score', 'source'), table, columns,
               strong=(0,))


def _group_means(numbers, row):
  """Of a row that gives its tasks but no groups."""
  groups = {}
  for task in numbers.definition.tasks.values():
    if task.name in row.tasks:
      groups.setdefault(task.group, []).append(row.tasks[task.name])
  return {group: sum(values) / len(values) for group, values in groups.items()}


def _published_tasks(numbers, rows):
  found = {s.task.name: s for s in numbers.standings}
  report = numbers.definition.report
  table = []
  for name in numbers.definition.tasks:
    ours = found[name].median if name in found and found[name].complete else None
    table.append((name, number(report, ours), *(
        f'{row.tasks[name]:.1f}' if name in row.tasks else '-' for row in rows)))
  return Table(('task', 'this sweep', *(f'{row.model} (published)' for row in rows)),
               table, tuple(range(1, 2 + len(rows))))


def _search_table(searched):
  rows, strong = [], []
  for s in searched:
    for point, cells, score in s.points:
      if s.winner == point:
        strong.append(len(rows))
      rows.append((s.task.name, shown(point), str(len(cells)), s.selected_by,
                   number(s.selected_by, score),
                   'selected' if s.winner == point else ''))
  return Table(('task', 'settings', 'runs', 'metric', 'median', ''), rows,
               numbers=(2, 4), strong=tuple(strong))


def _troubles(numbers):
  rows = []
  for cell, result, error in numbers.cells:
    state = summary.state(result, error)
    if state in ('diverged', 'failed'):
      text = result.diverged if result is not None else error['message']
      rows.append((cell.title, state, text.splitlines()[0] if text else ''))
  if not rows:
    return []
  return [Heading('Runs without a number'), Table(('cell', 'state', 'reason'), rows)]


def _csv(numbers):
  """A row per cell: its task, settings, state and metrics."""
  keys = list(numbers.definition.grid)
  metrics = sorted({name for _, result, _ in numbers.cells if result
                    for name in result.metrics})
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['id', 'task', 'group', 'stage', 'seed', *keys, 'state', 'selected',
                   'steps', 'seconds', *metrics])
  winners = {s.task.name: s.winner for s in numbers.standings}
  for cell, result, error in numbers.cells:
    writer.writerow([
        cell.id, cell.task, numbers.definition.tasks[cell.task].group, cell.stage,
        cell.seed, *(cell.settings[key] for key in keys), summary.state(result, error),
        int(winners[cell.task] == cell.settings),
        result.steps if result else '', result.seconds if result else '',
        *(result.metrics.get(name, '') if result else '' for name in metrics)])
  return text.getvalue()
