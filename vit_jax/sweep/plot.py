"""The report's picture: results by task, and what the search has seen."""

import io
import pathlib

from vit_jax.runtime import files
from vit_jax.sweep import published
from vit_jax.sweep.cells import shown
from vit_jax.sweep.standings import lower_is_better
from vit_jax.sweep.summary import Summary

# Okabe-Ito, distinguishable for colour-blind readers.
_COLOURS = ('#0072B2', '#009E73', '#D55E00', '#CC79A7', '#E69F00', '#56B4E9')
# More columns than this are too narrow for their numbers.
_ANNOTATED = 16


def draw(summary: Summary, path: pathlib.Path) -> bool:
  """Writes a PNG; False, and no file, while there is nothing to show."""
  results = [s for s in summary.standings if s.values]
  searched = [s for s in summary.standings
              if len(s.points) > 1 and any(score is not None for *_, score in s.points)]
  heights = [1.6 + 0.34 * len(part) for part in (results, searched) if part]
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
  if results:
    _draw_results(figure, axes.pop(0), summary, results)
  if searched:
    _draw_search(figure, axes.pop(0), searched)
  png = io.BytesIO()
  figure.savefig(png, format='png')
  files.write_bytes(path, png.getvalue())
  return True


def _draw_results(figure, axes, summary, standings):
  metric = summary.definition.report
  scale = _scale(metric)
  groups = list(dict.fromkeys(s.task.group for s in standings))
  named = set()
  for row, s in enumerate(standings):
    colour = _COLOURS[groups.index(s.task.group) % len(_COLOURS)]
    values = [scale * v for v in s.values]
    label = s.task.group if s.task.group not in named else None
    named.add(s.task.group)
    axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=2)
    axes.plot(values, [row] * len(values), 'o', color=colour, markersize=4,
              markerfacecolor='white')
    axes.plot([scale * s.median], [row], 'D', color=colour, markersize=7,
              label=label or None)
    axes.annotate(f'{scale * s.median:.{_digits(metric)}f}',
                  (scale * s.median, row), xytext=(0, 7),
                  textcoords='offset points', ha='center', fontsize=7)
  rows = {s.task.name: row for row, s in enumerate(standings)}
  for mark, result in zip('x+1', [
      r for r in published.rows(summary.definition.benchmark) if r.tasks],
      strict=False):
    shared = [name for name in rows if name in result.tasks]
    axes.plot([result.tasks[name] for name in shared], [rows[name] for name in shared],
              mark, color='0.35', label=f'{result.model} (published)')
  _label_rows(axes, standings)
  axes.set_ylim(len(standings) - 0.5, -0.9)
  axes.grid(axis='x', color='0.9')
  axes.set_axisbelow(True)
  axes.margins(x=0.08)
  axes.set_xlabel(metric + (' in percent' if scale == 100 else ''))
  axes.set_title('Reported runs: median (diamond), every seed (circles)', fontsize=10,
                 loc='left')
  handles, labels = axes.get_legend_handles_labels()
  if labels:
    figure.legend(handles, labels, fontsize=8, loc='outside upper left', ncols=3,
                  frameon=False)


def _draw_search(figure, axes, standings):
  points = [point for point, *_ in standings[0].points]
  metric = standings[0].selected_by
  # Coloured by the distance to the task's best: tasks differ more than settings do.
  image = axes.imshow([_below_best(s) for s in standings], aspect='auto',
                      cmap='Blues_r')
  for row, s in enumerate(standings):
    for column, (point, _, score) in enumerate(s.points):
      chosen = point == s.winner
      if len(points) > _ANNOTATED and not chosen:
        continue
      text = '-' if score is None else f'{_scale(metric) * score:.{_digits(metric)}f}'
      dark = score is not None and image.norm(_below_best(s)[column]) < 0.4
      axes.text(column, row, text + (' *' if chosen else ''), ha='center', va='center',
                fontsize=7, fontweight='bold' if chosen else None,
                color='white' if dark else 'black')
  axes.set_xticks(range(len(points)), [shown(p).replace(' ', '\n') for p in points],
                  fontsize=7, rotation=0 if len(points) <= 8 else 90)
  _label_rows(axes, standings)
  figure.colorbar(image, ax=axes, pad=0.01).set_label(
      "distance to the task's best", fontsize=8)
  axes.set_title(f'Search: {metric} of every point of the grid, * selected',
                 fontsize=10, loc='left')


def _below_best(standing):
  """How much worse every point is than the best; nan where there is no score."""
  metric = standing.selected_by
  sign = -1 if lower_is_better(metric) else 1
  scores = [float('nan') if score is None else sign * _scale(metric) * score
            for *_, score in standing.points]
  best = max((score for score in scores if score == score), default=0.0)
  return [best - score for score in scores]


def _label_rows(axes, standings):
  axes.set_yticks(range(len(standings)), [s.task.name for s in standings], fontsize=8)


def _scale(metric):
  return 100 if metric.endswith('accuracy') else 1


def _digits(metric):
  return 1 if _scale(metric) == 100 else 3
