"""Which worker runs which cells, and how long they take."""

import pytest
import sweeps

from vit_jax.sweep import cells, schedule
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResults


def _ids(
    sweep: SweepDefinition, results: CellResults, shard: tuple[int, int]) -> list[str]:
  return [c.id for c in schedule.candidates(sweep, results, shard)]


@pytest.mark.parametrize('tasks, count, by_task', [
    ('abcde', 2, True), ('abcde', 5, True), ('abc', 5, False), ('a', 2, False)])
def test_shares_are_a_partition(tasks: str, count: int, by_task: bool) -> None:
  found = sweeps.make(tuple(tasks), {'optimizer.learning_rate': (0.1, 0.2, 0.3)})
  results = sweeps.InMemoryResults()
  alone = _ids(found, results, (0, 1))
  parts = [_ids(found, results, (i, count)) for i in range(count)]
  assert sorted(sum(parts, [])) == sorted(alone)
  assert len(alone) == 3 * len(tasks)
  for part in parts:
    assert abs(len(part) - len(alone) / count) < (3 if by_task else 1)
    if by_task:
      # Whole tasks, so that no program is compiled by two workers.
      for task in tasks:
        assert len([i for i in part if i.startswith(f'{task}_')]) in (0, 3)


def test_a_winner_is_retrained_by_whoever_finds_it_ready() -> None:
  found = sweeps.make(('a', 'b'), seeds=2)
  results = sweeps.InMemoryResults()
  for cell in cells.first_stage(found, found.tasks['a']):
    results.put(cell, val_accuracy=0.5)
  for worker in range(2):
    finals = [i for i in _ids(found, results, (worker, 2)) if '_final_' in i]
    assert len(finals) == 2 and all(i.startswith('a_') for i in finals)


def test_settings_without_a_search_are_dealt_out() -> None:
  found = sweeps.make(('a',), {'optimizer.learning_rate': (0.1,)}, seeds=4)
  parts = [_ids(found, sweeps.InMemoryResults(), (i, 2)) for i in range(2)]
  assert [len(part) for part in parts] == [2, 2] and not set(parts[0]) & set(parts[1])


def test_pace_predicts_from_cells_of_the_same_task() -> None:
  found = sweeps.make(('a', 'b'))
  results = sweeps.InMemoryResults()
  a, b = (cells.first_stage(found, found.tasks[name]) for name in 'ab')
  assert schedule.Pace(a + b, results).total(a) is None
  results.put(a[0], steps=10, seconds=20.0, val_accuracy=0.5)
  pace = schedule.Pace(a + b, results)
  assert pace.seconds(a[1]) == 20 and pace.seconds(b[0]) == 20
  results.put(b[0], steps=10, seconds=50.0, val_accuracy=0.5)
  pace = schedule.Pace(a + b, results)
  assert pace.total([a[1], b[1]]) == 20 + 50
