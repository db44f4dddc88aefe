"""Which runs a definition makes, and that their names stand for their content."""

import re
import subprocess
import sys

import pytest
import sweeps

from vit_jax import config as config_lib
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, shares, standings
from vit_jax.sweep.cells import FINAL, ONLY, SEARCH


def test_two_stages(tmp_path):
  found = sweeps.load(tmp_path)
  task = found.tasks['few']
  search = cells.first_stage(found, task)
  assert [(c.stage, c.config.optimizer.learning_rate, c.seed) for c in search] == [
      (SEARCH, 0.03, 0), (SEARCH, 0.3, 0)]
  final = cells.final_stage(found, task, search[1].settings)
  assert [(c.stage, c.config.optimizer.learning_rate, c.config.seed) for c in final
          ] == [(FINAL, 0.3, 0), (FINAL, 0.3, 1)]
  data = search[0].config.data
  assert (data.train_split, data.val_split, data.test_split) == (
      'train[:64]', 'train[-40:]', '')
  data = final[0].config.data
  assert (data.train_split, data.val_split, data.test_split) == (
      'train[:64]+train[-40:]', '', 'test[:40]')


def test_final_settings_go_on_top_of_those_of_the_search():
  found = sweeps.make()
  task = found.tasks['a']
  task.search['batch_size'] = 64
  task.final.update({'optimizer.clip_norm': 0.5})
  cell = cells.final_stage(found, task, found.points()[0])[0]
  assert cell.config.batch_size == 64 and cell.config.optimizer.clip_norm == 0.5


def test_one_stage_runs_every_point_with_every_seed():
  found = sweeps.make(final=False, seeds=3)
  first = cells.first_stage(found, found.tasks['a'])
  assert [(c.stage, c.settings['optimizer.learning_rate'], c.seed) for c in first] == [
      (ONLY, rate, seed) for rate in (0.1, 0.01) for seed in (0, 1, 2)]
  # The reported runs are among them, not new ones.
  assert cells.final_stage(found, found.tasks['a'], found.points()[1]) == first[3:]


def test_a_single_point_needs_no_search():
  found = sweeps.make(grid={'optimizer.learning_rate': (0.1,)}, seeds=2)
  assert cells.first_stage(found, found.tasks['a']) == []
  standing = standings.of_task(found, found.tasks['a'], sweeps.Kept())
  assert standing.winner == {'optimizer.learning_rate': 0.1}
  assert [c.stage for c in standing.finals] == [FINAL, FINAL]


def test_seeds_count_from_that_of_the_base():
  found = sweeps.make(seeds=2)
  found = sweeps.with_(found, base=config_lib.replace(found.base, 'seed', 7))
  cell = cells.first_stage(found, found.tasks['a'])[0]
  final = cells.final_stage(found, found.tasks['a'], cell.settings)
  assert cell.config.seed == 7 and [c.config.seed for c in final] == [7, 8]


def test_names_are_different_and_fit_a_file_system():
  grid = {'optimizer.learning_rate': (0.1, 1e-5), 'data.train_split': ('a[:5%]', 'b'),
          'data.image_size': ((32, 32), (64, 64))}
  found = sweeps.make(('a', 'b'), grid, seeds=2)
  names = [c.id for task in found.tasks.values() for point in found.points()
           for c in [cells.make(found, task, SEARCH, point, 0),
                     *cells.final_stage(found, task, point)]]
  assert len(set(names)) == 2 * 8 * 3
  assert all(re.fullmatch(r'[\w.+-]{1,200}', name) for name in names)


def test_names_follow_what_changes_the_result_and_nothing_else():
  found = sweeps.make()
  task, point = found.tasks['a'], found.points()[0]
  def name(**changes):
    base = found.base
    for key, value in changes.items():
      base = config_lib.replace(base, key.replace('__', '.'), value)
    return cells.make(sweeps.with_(found, base=base), task, SEARCH, point, 0).id
  assert name(log_every=7, mesh__fsdp=2, checkpoint__every=5) == name()
  changed = [name(), name(total_steps=11), name(batch_size=256),
             name(model__dropout=0.5), name(data__value_range=(0.0, 1.0))]
  assert len(set(changed)) == len(changed)


def test_names_are_the_same_in_every_process(tmp_path):
  path = sweeps.write_config(tmp_path)
  code = ('from vit_jax.sweep import cells, definition\n'
          f'd = definition.load({path!r})\n'
          'print([c.id for t in d.tasks.values() for c in cells.first_stage(d, t)])')
  found = [subprocess.run([sys.executable, '-c', code], check=True, text=True,
                          capture_output=True, env={'PYTHONHASHSEED': str(seed),
                                                    'JAX_PLATFORMS': 'cpu'}).stdout
           for seed in (1, 2)]
  assert found[0] == found[1] and 'learning_rate-0.3' in found[0]


@pytest.mark.parametrize('changes, message', [
    ({'select': 'fewshot/5shot'}, 'needs fewshot/5shot of a search'),
    ({'report': 'val/accuracy'}, 'needs val/accuracy of a final'),
    ({'grid': {'batch_size': (8, 0)}}, r'Task a, .*batch_size=0: config.batch_size'),
    ({'grid': {'optimizer.name': ('sgd', 'sdg')}}, "name=sdg.*'sdg'"),
])
def test_cells_that_cannot_run_are_found_before_any_does(changes, message):
  with pytest.raises(UserError, match=message):
    cells.check(sweeps.make(**changes))


def test_the_debug_form_keeps_the_grid_and_the_splits():
  found = sweeps.with_(sweeps.make(grid={'total_steps': (500, 2500)}), debug=True)
  cells.check(found)
  first = cells.first_stage(found, found.tasks['a'])
  assert len({c.id for c in first}) == 2
  assert all(c.config.total_steps < 10 and c.config.model.width < 100 for c in first)
  assert first[0].config.data.val_split == 'train[90%:]'


def _ids(definition, results, shard):
  return [c.id for c in shares.candidates(definition, results, shard)]


@pytest.mark.parametrize('tasks, count, by_task', [
    ('abcde', 2, True), ('abcde', 5, True), ('abc', 5, False), ('a', 2, False)])
def test_shares_are_a_partition(tasks, count, by_task):
  found = sweeps.make(tuple(tasks), {'optimizer.learning_rate': (0.1, 0.2, 0.3)})
  results = sweeps.Kept()
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


def test_a_winner_is_retrained_by_whoever_finds_it_ready():
  found = sweeps.make(('a', 'b'), seeds=2)
  results = sweeps.Kept()
  for cell in cells.first_stage(found, found.tasks['a']):
    results.put(cell, val_accuracy=0.5)
  for worker in range(2):
    finals = [i for i in _ids(found, results, (worker, 2)) if '_final_' in i]
    assert len(finals) == 2 and all(i.startswith('a_') for i in finals)


def test_settings_without_a_search_are_dealt_out():
  found = sweeps.make(('a',), {'optimizer.learning_rate': (0.1,)}, seeds=4)
  parts = [_ids(found, sweeps.Kept(), (i, 2)) for i in range(2)]
  assert [len(part) for part in parts] == [2, 2] and not set(parts[0]) & set(parts[1])
