"""Selection against scores worked out by hand."""

from typing import Any

import pytest
import sweeps

from vit_jax.objectives.classification import Classification
from vit_jax.sweep import cells, selection
from vit_jax.sweep.selection import TaskSelection

RATES = {'optimizer.learning_rate': (0.1, 0.2, 0.3)}


def _searched(
    scores: tuple[float | None, ...], metric: str = 'val_accuracy',
    **definition: Any) -> TaskSelection:
  """The selected after a search with these scores; None means diverged."""
  found = sweeps.make(grid=RATES, **definition)
  results = sweeps.InMemoryResults()
  first = cells.first_stage(found, found.tasks['a'])
  for cell, score in zip(first, scores, strict=False):
    if score is None:
      results.put(cell, diverged='loss inf')
    else:
      results.put(cell, **{metric: score})
  return selection.select(found, found.tasks['a'], results)


@pytest.mark.parametrize('scores, metric, winner, score', [
    ((0.1, 0.9, 0.5), 'val_accuracy', 0.2, 0.9),
    # The first of equal ones.
    ((0.1, 0.9, 0.9), 'val_accuracy', 0.2, 0.9),
    ((0.5, 0.9, 0.1), 'val_loss', 0.3, 0.1),
    ((None, 0.2, 0.3), 'val_accuracy', 0.3, 0.3),
])
def test_the_winner(
    scores: tuple[float | None, ...], metric: str, winner: float, score: float) -> None:
  selected = _searched(scores, metric, select=metric.replace('_', '/'))
  assert selected.winner == {'optimizer.learning_rate': winner}
  assert selected.score == score
  assert len(selected.finals) == 1 and not selected.complete


def test_the_objective_says_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(Classification, 'metrics', {'accuracy': 'min', 'loss': 'max'})
  assert _searched((0.1, 0.9, 0.5)).winner == {'optimizer.learning_rate': 0.1}


def test_no_winner_before_the_search_is_complete() -> None:
  selected = _searched((0.1, 0.9))
  assert not selected.decided and selected.winner is None and selected.finals == []


def test_no_winner_if_everything_diverged() -> None:
  selected = _searched((None, None, None))
  assert selected.decided and selected.winner is None


def test_one_stage_selects_by_the_median_over_seeds() -> None:
  found = sweeps.make(grid=RATES, final=False, seeds=3)
  results = sweeps.InMemoryResults()
  scores = [(0.5, 0.5, 0.5), (0.9, 0.4, 0.4), (0.6, 0.6, 0.1)]
  for cell, score in zip(cells.first_stage(found, found.tasks['a']),
                         sum(scores, ()), strict=True):
    results.put(cell, val_accuracy=score, test_accuracy=score / 2)
  selected = selection.select(found, found.tasks['a'], results)
  assert selected.winner == {'optimizer.learning_rate': 0.3}
  assert selected.values == [0.3, 0.3, 0.05] and selected.median == 0.3


def test_a_run_without_a_validation_split_is_selected_by_what_it_reports() -> None:
  found = sweeps.make(final=False)
  found.tasks['a'].search['data.val_split'] = ''
  results = sweeps.InMemoryResults()
  for cell, score in zip(
      cells.first_stage(found, found.tasks['a']), (0.2, 0.3), strict=True):
    results.put(cell, test_accuracy=score)
  selected = selection.select(found, found.tasks['a'], results)
  assert selected.selected_by == 'test/accuracy' and selected.median == 0.3
