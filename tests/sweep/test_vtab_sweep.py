"""The VTAB sweep as a whole, on tiny data in the true format of its data sets."""

import json
import pathlib

import pytest
import tiny_tfds

from vit_jax.cli.main import main
from vit_jax.sweep import vtab

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'vtab.py'
SIZES = {'kitti': {'train': 30, 'validation': 12, 'test': 11},
         'dsprites': {'train': 70}}


@pytest.mark.slow
def test_two_tasks_from_search_to_report(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]) -> None:
  for builder, sizes in SIZES.items():
    # The cut points of the subsets follow from these.
    monkeypatch.setitem(vtab.SIZES, builder, sizes)
    tiny_tfds.write(f'{builder}', tmp_path / 'data', sizes)
  words = ['sweep', f'--config={CONFIG}', f'--workdir={tmp_path / "sweep"}', '--debug',
           '--tasks=kitti,dsprites_loc', f'--config.data.dir={tmp_path / "data"}',
           '--grid', 'optimizer.learning_rate=0.01,0.03', '--seeds=1']
  assert main(words) == 0, capsys.readouterr()
  assert '6 of 6 cells are finished' in capsys.readouterr().out
  values = json.loads((tmp_path / 'sweep' / 'results.json').read_text())
  # The test subset of dSprites is its last tenth.
  for task, examples in (('kitti_distance', 11), ('dsprites_location', 7)):
    found = values['tasks'][task]
    assert found['complete'] and found['group'] == 'structured'
    correct = found['median'] * examples
    assert correct == pytest.approx(round(correct)) and 0 <= correct <= examples
    assert [p['score'] is not None for p in found['points']] == [True, True]
  assert values['all']['value'] is None and values['all']['tasks'] == 2
  assert values['groups']['structured']['tasks_in_all'] == 8
  page = (tmp_path / 'sweep' / 'report.md').read_text()
  assert '2 of 19' in page and '| ViT-H/14, JFT-300M | published |' in page
