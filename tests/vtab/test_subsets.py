"""Subsets of VTAB against the benchmark's documented slices, on the real sizes."""

import json
import pathlib

import pytest
import tiny_tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import open_source, splits
from vit_jax.sweep import vtab

# As in the benchmark's code: train, val, trainval, test; then train800 and val200; then
# the counts of the first four. Its tests check these counts.
DOCUMENTED = {
    'caltech101': ('train[:2754]', 'train[2754:]', 'train', 'test',
                   'train[:800]', 'train[2754:2954]', (2754, 306, 3060, 6084)),
    'cifar100': ('train[:45000]', 'train[45000:]', 'train', 'test',
                 'train[:800]', 'train[45000:45200]', (45000, 5000, 50000, 10000)),
    'dtd': ('train', 'validation', 'train+validation', 'test',
            'train[:800]', 'validation[:200]', (1880, 1880, 3760, 1880)),
    'oxford_flowers102': (
        'train', 'validation', 'train+validation', 'test',
        'train[:800]', 'validation[:200]', (1020, 1020, 2040, 6149)),
    'oxford_iiit_pet': ('train[:2944]', 'train[2944:]', 'train', 'test',
                        'train[:800]', 'train[2944:3144]', (2944, 736, 3680, 3669)),
    'sun397': ('train', 'validation', 'train+validation', 'test',
               'train[:800]', 'validation[:200]', (76128, 10875, 87003, 21750)),
    'svhn_cropped': (
        'train[:65931]', 'train[65931:]', 'train', 'test',
        'train[:800]', 'train[65931:66131]', (65931, 7326, 73257, 26032)),
    'patch_camelyon': (
        'train', 'validation', 'train+validation', 'test',
        'train[:800]', 'validation[:200]', (262144, 32768, 294912, 32768)),
    'eurosat': ('train[:16200]', 'train[16200:21600]', 'train[:21600]',
                'train[21600:]', 'train[:800]', 'train[16200:16400]',
                (16200, 5400, 21600, 5400)),
    'resisc45': ('train[:18900]', 'train[18900:25200]', 'train[:25200]',
                 'train[25200:]', 'train[:800]', 'train[18900:19100]',
                 (18900, 6300, 25200, 6300)),
    'diabetic_retinopathy_detection': (
        'train', 'validation', 'train+validation', 'test',
        'train[:800]', 'validation[:200]', (35126, 10906, 46032, 42670)),
    'clevr': ('train[:63000]', 'train[63000:]', 'train', 'validation',
              'train[:800]', 'train[63000:63200]', (63000, 7000, 70000, 15000)),
    'dmlab': ('train', 'validation', 'train+validation', 'test',
              'train[:800]', 'validation[:200]', (65550, 22628, 88178, 22735)),
    'kitti': ('train', 'validation', 'train+validation', 'test',
              'train[:800]', 'validation[:200]', (6347, 423, 6770, 711)),
    'dsprites': ('train[:589824]', 'train[589824:663552]', 'train[:663552]',
                 'train[663552:]', 'train[:800]', 'train[589824:590024]',
                 (589824, 73728, 663552, 73728)),
    'smallnorb': ('train', 'test[:50%]', 'train+test[:50%]', 'test[50%:]',
                  'train[:800]', 'test[:200]', (24300, 12150, 36450, 12150)),
}
NAMES = ('train', 'val', 'trainval', 'test', 'train800', 'val200')


@pytest.mark.parametrize('builder', DOCUMENTED)
def test_the_documented_slices_on_the_real_sizes(builder: str) -> None:
  *slices, counts = DOCUMENTED[builder]
  real = {split: [n] for split, n in vtab.SIZES[builder].items()}
  ours = {name: splits.resolve(spec, real, builder)
          for name, spec in vtab.subsets(builder).items()}
  for name, documented in zip(NAMES, slices, strict=True):
    assert ours[name] == splits.resolve(documented, real, builder), name
  assert tuple(_count(ours[name]) for name in NAMES[:4]) == counts
  assert (_count(ours['train800']), _count(ours['val200'])) == (800, 200)
  assert ours['train800val200'] == ours['train800'] + ours['val200']


def _count(ranges: list[tuple[str, int, int]]) -> int:
  return sum(stop - start for _, start, stop in ranges)


@pytest.mark.parametrize('builder', DOCUMENTED)
@pytest.mark.parametrize('scale', (7, 40))
def test_small_data_sets_are_cut_into_disjoint_parts(builder: str, scale: int) -> None:
  sizes = {split: scale for split in vtab.SIZES[builder]}
  ranges = {name: splits.resolve(spec, {s: [n] for s, n in sizes.items()}, builder)
            for name, spec in vtab.subsets(builder, sizes).items()}
  seen = [{(split, i) for split, start, stop in ranges[name]
           for i in range(start, stop)} for name in ('train', 'val', 'test')]
  assert len(set.union(*seen)) == sum(map(len, seen))
  assert all(seen)
  assert _count(ranges['trainval']) == len(seen[0]) + len(seen[1])
  assert _count(ranges['train800val200']) == len(seen[0]) + len(seen[1])


@pytest.mark.parametrize('name', vtab.TASKS)
def test_what_a_task_reads_from_the_real_metadata(
    name: str, tmp_path: pathlib.Path) -> None:
  """Through TFDS's own metadata: numbers of examples and of classes."""
  task = vtab.TASKS[name]
  tiny_tfds.write_metadata(task.builder, tmp_path, vtab.SIZES[task.data_set])
  for stage, variant, train, held_out in (
      ('search', '1k', 800, 200), ('final', '1k', 1000, None),
      ('search', 'full', 0, 1), ('final', 'full', 2, None)):
    values = task.overrides(stage, variant=variant)
    data = DataSection(dir=str(tmp_path), **{
        key.removeprefix('data.'): value for key, value in values.items()
        if not key.startswith(('data.train.', 'data.eval.'))})
    counts = DOCUMENTED[task.data_set][-1]
    source = open_source(data, data.train_split)
    assert source.num_classes == task.num_classes
    assert source.num_examples == (train if variant == '1k' else counts[train])
    if stage == 'search':
      assert not data.test_split and held_out is not None
      expected = held_out if variant == '1k' else counts[held_out]
      assert open_source(data, data.val_split).num_examples == expected
    else:
      assert not data.val_split
      assert open_source(data, data.test_split).num_examples == counts[3]


@pytest.mark.parametrize('name, coded, older', [
    ('oxford_iiit_pet', '4.0.0', '3.2.0'), ('kitti_distance', '3.3.0', '3.2.0'),
    ('clevr_count', '3.1.0', '3.0.0')])
def test_data_prepared_by_an_older_tfds(
    name: str, coded: str, older: str, tmp_path: pathlib.Path) -> None:
  task = vtab.TASKS[name]
  builder = task.builder.split(':')[0]
  tiny_tfds.write_metadata(builder, tmp_path, vtab.SIZES[builder])
  folder = (tmp_path / builder / coded).rename(tmp_path / builder / older)
  info = json.loads((folder / 'dataset_info.json').read_text())
  (folder / 'dataset_info.json').write_text(json.dumps({**info, 'version': older}))
  data = DataSection(name=task.builder, dir=str(tmp_path), label_rule=task.label_rule)
  split = vtab.subsets(task.data_set)['train800val200']
  assert open_source(data, split).num_examples == 1000
