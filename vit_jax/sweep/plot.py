"""The report's picture: results by task, and what the search has seen."""

import io
import pathlib
import typing

import numpy as np

from vit_jax.runtime import files
from vit_jax.sweep import published
from vit_jax.sweep.cells import settings_text
from vit_jax.sweep.selection import TaskSelection
from vit_jax.sweep.summary import Summary, in_percent

if typing.TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Okabe-Ito, distinguishable for colour-blind readers.
_COLOURS = ('#0072B2', '#009E73', '#D55E00', '#CC79A7', '#E69F00', '#56B4E9')
# More columns than this are too narrow for their numbers.
_ANNOTATED = 16


def draw(summary: Summary, path: pathlib.Path) -> bool:
  """Writes a PNG; False, and no file, while there is nothing to show."""
  reported = [s for s in summary.selections if s.values]
  searched = [s for s in summary.selections
              if s.searched and any(point.score is not None for point in s.points)]
  heights = [1.6 + 0.34 * len(part) for part in (reported, searched) if part]
  if not heights:
    path.unlink(missing_ok=True)
    return False
  # Imported here: no other command needs it, and it takes a second.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  figure = Figure(figsize=(9, sum(heights)), dpi=150, layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
  axes = list(axes.flat)
  if reported:
    _draw_results(figure, axes.pop(0), summary, reported)
  if searched:
    _draw_search(figure, axes.pop(0), searched)
  png = io.BytesIO()
  figure.savefig(png, format='png')
  files.write_bytes(path, png.getvalue())
  return True


def _draw_results(figure: 'Figure', axes: 'Axes', summary: Summary,
                  reported: list[TaskSelection]) -> None:
  metric = summary.sweep.report
  groups = list(dict.fromkeys(s.task.group for s in reported))
  named = set()
  for row, s in enumerate(reported):
    colour = _COLOURS[groups.index(s.task.group) % len(_COLOURS)]
    label = s.task.group if s.task.group not in named else None
    named.add(s.task.group)
    _draw_runs(axes, row, s, metric, colour, label or None)
  _draw_published(axes, summary, reported)
  _label_rows(axes, reported)
  axes.set_ylim(len(reported) - 0.5, -0.9)
  axes.grid(axis='x', color='0.9')
  axes.set_axisbelow(True)
  axes.margins(x=0.08)
  axes.set_xlabel(metric + (' in percent' if in_percent(metric) else ''))
  axes.set_title('Reported runs: median (diamond), every seed (circles)', fontsize=10,
                 loc='left')
  handles, labels = axes.get_legend_handles_labels()
  if labels:
    figure.legend(handles, labels, fontsize=8, loc='outside upper left', ncols=3,
                  frameon=False)


def _draw_runs(axes: 'Axes', row: int, selected: TaskSelection, metric: str,
               colour: str, label: str | None) -> None:
  """The seeds of one task as circles on a line, their median as a diamond."""
  scale = _scale(metric)
  values = [scale * value for value in selected.values]
  median = scale * (selected.median or 0.0)
  axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=2)
  axes.plot(values, [row] * len(values), 'o', color=colour, markersize=4,
            markerfacecolor='white')
  axes.plot([median], [row], 'D', color=colour, markersize=7, label=label)
  axes.annotate(f'{median:.{_digits(metric)}f}', (median, row), xytext=(0, 7),
                textcoords='offset points', ha='center', fontsize=7)


def _draw_published(axes: 'Axes', summary: Summary,
                    reported: list[TaskSelection]) -> None:
  rows = {s.task.name: row for row, s in enumerate(reported)}
  for mark, result in zip('x+1', [
      r for r in published.rows(summary.sweep.benchmark) if r.tasks],
      strict=False):
    shared = [name for name in rows if name in result.tasks]
    axes.plot([result.tasks[name] for name in shared], [rows[name] for name in shared],
              mark, color='0.35', label=f'{result.model} (published)')


def _draw_search(figure: 'Figure', axes: 'Axes', searched: list[TaskSelection]) -> None:
  points = [point.settings for point in searched[0].points]
  metric = searched[0].selected_by
  # Coloured by the distance to the task's best: tasks differ more than settings do.
  image = axes.imshow([_below_best(s) for s in searched], aspect='auto',
                      cmap='Blues_r')
  for row, s in enumerate(searched):
    brightness = np.asarray(image.norm(np.asarray(_below_best(s))))
    for column, point in enumerate(s.points):
      chosen = point.settings == s.winner
      if len(points) > _ANNOTATED and not chosen:
        continue
      text = '-' if point.score is None else (
          f'{_scale(metric) * point.score:.{_digits(metric)}f}')
      dark = point.score is not None and brightness[column] < 0.4
      axes.text(column, row, text + (' *' if chosen else ''), ha='center', va='center',
                fontsize=7, fontweight='bold' if chosen else None,
                color='white' if dark else 'black')
  axes.set_xticks(range(len(points)),
                  [settings_text(p).replace(' ', '\n') for p in points],
                  fontsize=7, rotation=0 if len(points) <= 8 else 90)
  _label_rows(axes, searched)
  figure.colorbar(image, ax=axes, pad=0.01).set_label(
      "distance to the task's best", fontsize=8)
  axes.set_title(f'Search: {metric} of every point of the grid, * selected',
                 fontsize=10, loc='left')


def _below_best(selected: TaskSelection) -> list[float]:
  """How much worse every point is than the best; nan where there is no score."""
  metric = selected.selected_by
  sign = -1 if selected.better == 'min' else 1
  scores = [float('nan') if point.score is None else
            sign * _scale(metric) * point.score for point in selected.points]
  best = max((score for score in scores if score == score), default=0.0)
  return [best - score for score in scores]


def _label_rows(axes: 'Axes', rows: list[TaskSelection]) -> None:
  axes.set_yticks(range(len(rows)), [s.task.name for s in rows], fontsize=8)


def _scale(metric: str) -> int:
  return 100 if in_percent(metric) else 1


def _digits(metric: str) -> int:
  return 1 if in_percent(metric) else 3
