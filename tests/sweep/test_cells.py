"""Which runs a definition makes, and that their names stand for their content."""

import dataclasses
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import sweeps

from vit_jax import config as config_lib
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, selection
from vit_jax.sweep.cells import FINAL, ONLY, SEARCH


def test_two_stages(tmp_path: pathlib.Path) -> None:
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


def test_final_settings_go_on_top_of_those_of_the_search() -> None:
  found = sweeps.make()
  task = found.tasks['a']
  task.search['batch_size'] = 64
  assert task.final is not None
  task.final['optimizer.clip_norm'] = 0.5
  cell = cells.final_stage(found, task, found.points()[0])[0]
  assert cell.config.batch_size == 64 and cell.config.optimizer.clip_norm == 0.5


def test_one_stage_runs_every_point_with_every_seed() -> None:
  found = sweeps.make(final=False, seeds=3)
  first = cells.first_stage(found, found.tasks['a'])
  assert [(c.stage, c.settings['optimizer.learning_rate'], c.seed) for c in first] == [
      (ONLY, rate, seed) for rate in (0.1, 0.01) for seed in (0, 1, 2)]
  # The reported runs are among them, not new ones.
  assert cells.final_stage(found, found.tasks['a'], found.points()[1]) == first[3:]


def test_a_single_point_needs_no_search() -> None:
  found = sweeps.make(grid={'optimizer.learning_rate': (0.1,)}, seeds=2)
  assert cells.first_stage(found, found.tasks['a']) == []
  selected = selection.select(found, found.tasks['a'], sweeps.InMemoryResults())
  assert selected.winner == {'optimizer.learning_rate': 0.1}
  assert [c.stage for c in selected.finals] == [FINAL, FINAL]


def test_seeds_count_from_that_of_the_base() -> None:
  found = sweeps.make(seeds=2)
  found = dataclasses.replace(found, base=config_lib.replace(found.base, 'seed', 7))
  cell = cells.first_stage(found, found.tasks['a'])[0]
  final = cells.final_stage(found, found.tasks['a'], cell.settings)
  assert cell.config.seed == 7 and [c.config.seed for c in final] == [7, 8]


def test_names_are_different_and_fit_a_file_system() -> None:
  grid = {'optimizer.learning_rate': (0.1, 1e-5), 'data.train_split': ('a[:5%]', 'b'),
          'data.image_size': ((32, 32), (64, 64))}
  found = sweeps.make(('a', 'b'), grid, seeds=2)
  names = [c.id for task in found.tasks.values() for point in found.points()
           for c in [cells.make(found, task, SEARCH, point, 0),
                     *cells.final_stage(found, task, point)]]
  assert len(set(names)) == 2 * 8 * 3
  assert all(re.fullmatch(r'[\w.+-]{1,200}', name) for name in names)


def test_names_follow_what_changes_the_result_and_nothing_else() -> None:
  found = sweeps.make()
  task, point = found.tasks['a'], found.points()[0]
  def name(**changes: Any) -> str:
    base = found.base
    for key, value in changes.items():
      base = config_lib.replace(base, key.replace('__', '.'), value)
    return cells.make(dataclasses.replace(found, base=base), task, SEARCH, point, 0).id
  assert name(log_every=7, mesh__fsdp=2, checkpoint__every=5) == name()
  changed = [name(), name(total_steps=11), name(batch_size=256),
             name(model__dropout=0.5), name(data__value_range=(0.0, 1.0))]
  assert len(set(changed)) == len(changed)


def test_names_are_the_same_in_every_process(tmp_path: pathlib.Path) -> None:
  path = sweeps.write_config(tmp_path)
  code = ('from vit_jax.sweep import cells, loading\n'
          f'd = loading.load({path!r})\n'
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
def test_cells_that_cannot_run_are_found_before_any_does(
    changes: dict[str, Any], message: str) -> None:
  with pytest.raises(UserError, match=message):
    cells.check_cells(sweeps.make(**changes))


def test_the_debug_form_keeps_the_grid_and_the_splits() -> None:
  found = sweeps.make(grid={'total_steps': (500, 2500)})
  found = dataclasses.replace(found, debug=True)
  cells.check_cells(found)
  first = cells.first_stage(found, found.tasks['a'])
  assert len({c.id for c in first}) == 2
  assert all(c.config.total_steps < 10 and c.config.model.width < 100 for c in first)
  assert first[0].config.data.val_split == 'train[90%:]'
