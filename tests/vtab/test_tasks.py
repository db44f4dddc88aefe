"""The table of VTAB's tasks: groups, classes and transforms."""

import pytest

from vit_jax.sweep import vtab

CLASSES = {
    'caltech101': 102, 'cifar100': 100, 'dtd': 47, 'oxford_flowers102': 102,
    'oxford_iiit_pet': 37, 'sun397': 397, 'svhn': 10, 'patch_camelyon': 2,
    'eurosat': 10, 'resisc45': 45, 'diabetic_retinopathy': 5, 'clevr_count': 8,
    'clevr_distance': 6, 'dmlab': 6, 'kitti_distance': 4, 'dsprites_location': 16,
    'dsprites_orientation': 16, 'smallnorb_azimuth': 18, 'smallnorb_elevation': 9}
# Train transforms of the fine-tuning recipe that scenic ships: (crop, flip).
CROP_ONLY = {'dsprites_orientation', 'smallnorb_azimuth'}
FLIP_ONLY = {'clevr_distance', 'clevr_count', 'dmlab', 'kitti_distance'}
NEITHER = {'dsprites_location'}


def test_nineteen_tasks_in_groups_of_seven_four_and_eight() -> None:
  assert {name: t.num_classes for name, t in vtab.TASKS.items()} == CLASSES
  sizes = [sum(t.group == g for t in vtab.TASKS.values()) for g in vtab.GROUPS]
  assert sizes == [7, 4, 8]


@pytest.mark.parametrize('name', CLASSES)
def test_train_transform_of_the_paper_preset(name: str) -> None:
  values = vtab.TASKS[name].overrides('final', 384, 'paper')
  crops = name not in FLIP_ONLY | NEITHER
  assert values['data.train.resize'] == ((448, 448) if crops else ())
  assert values['data.train.crop'] == ('random' if crops else 'none')
  assert values['data.train.flip'] == (name not in CROP_ONLY | NEITHER)
  assert values['data.image_size'] == (384, 384)


def test_lightweight_only_stretches() -> None:
  for task in vtab.TASKS.values():
    values = task.overrides('search', 224, 'lightweight')
    assert (values['data.train.resize'], values['data.train.crop'],
            values['data.train.flip']) == ((), 'none', False)


def test_test_labels_are_out_of_the_search() -> None:
  for task in vtab.TASKS.values():
    values = task.overrides('search')
    assert values['data.test_split'] == '' and values['data.val_split']
