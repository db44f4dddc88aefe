"""The VTAB benchmark, https://arxiv.org/abs/1910.04867: its 19 tasks and its subsets.

Every task is a row of one table: data, labels and transforms. Data and labels are those
of the benchmark's code (google-research/task_adaptation). Crops and flips are those
that google-research/scenic ships for fine-tuning ViTs on VTAB; their grouping is very
likely the one of BiT (https://arxiv.org/abs/1912.11370), which the ViT paper says it
follows.

No randomness is involved in the subsets: every one is a slice of the prepared order.
Cut points are percentages of a split rounded down, which for the real data sets gives
the numbers of the benchmark's own code.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax.data import published_sizes

GROUPS = ('natural', 'specialized', 'structured')
PRESETS = ('paper', 'lightweight')
VARIANTS = ('1k', 'full')
STAGES = ('search', 'final')


@dataclasses.dataclass(frozen=True)
class VtabTask:
  """One task; its score is plain top-1 accuracy on the whole test subset."""
  name: str
  group: str
  # The TFDS name of the data: versions that differ in nothing the task uses are all
  # accepted, so that what was prepared by an older TFDS works as well.
  builder: str
  num_classes: int
  label_key: str = 'label'
  # A row of `vit_jax.data.labels`.
  label_rule: str = ''
  pixel_factor: int = 1
  # Preset 'paper': whether training images are cropped (from 7/6 of the size) and
  # mirrored; a task's labels must survive both.
  crop: bool = True
  flip: bool = True

  @property
  def data_set(self) -> str:
    """The name of the data alone, as in `SIZES`."""
    return published_sizes.base_name(self.builder)

  def overrides(self, stage: str, resolution: int = 384, preset: str = 'paper',
                variant: str = '1k',
                sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The task as {dotted key of a config: value}.

    Args:
      stage: 'search' trains on train800 and scores val200; 'final' trains on both and
        scores the test subset. Variant 'full' has all of train, val and trainval.
      resolution: height and width of the model's input.
      preset: 'paper' crops and mirrors as the row says; 'lightweight' only stretches
        images to `resolution`, as the benchmark's own code.
      variant: '1k' or 'full'.
      sizes: of a smaller data set in place of the real one, see `subsets`.
    """
    for key, value, valid in (('stage', stage, STAGES), ('preset', preset, PRESETS),
                              ('variant', variant, VARIANTS)):
      if value not in valid:
        raise ValueError(f'{key} is {value!r}; expected one of {", ".join(valid)}.')
    crops = self.crop and preset == 'paper'
    # 448 at the paper's 384.
    larger = round(resolution * 7 / 6)
    return {
        'data.name': self.builder,
        'data.label_key': self.label_key,
        'data.label_rule': self.label_rule,
        'data.pixel_factor': self.pixel_factor,
        'data.image_size': (resolution, resolution),
        'data.train.resize': (larger, larger) if crops else (),
        'data.train.crop': 'random' if crops else 'none',
        'data.train.flip': self.flip and preset == 'paper',
        **self._splits(stage, variant, sizes)}

  def _splits(self, stage: str, variant: str,
              sizes: Mapping[str, int] | None) -> dict[str, str]:
    slices = subsets(self.data_set, sizes)
    full = variant == 'full'
    if stage == 'search':
      names = ('train', 'val', '') if full else ('train800', 'val200', '')
    else:
      names = ('trainval' if full else 'train800val200', '', 'test')
    keys = ('data.train_split', 'data.val_split', 'data.test_split')
    return {key: slices[name] if name else ''
            for key, name in zip(keys, names, strict=True)}


TASKS: dict[str, VtabTask] = {task.name: task for task in (
    VtabTask('caltech101', 'natural', 'caltech101:3.*.*', 102),
    VtabTask('cifar100', 'natural', 'cifar100:3.*.*', 100),
    VtabTask('dtd', 'natural', 'dtd:3.*.*', 47),
    VtabTask('oxford_flowers102', 'natural', 'oxford_flowers102:2.*.*', 102),
    # 3.x of older TFDS and 4.x; a name without version would find the newest alone.
    VtabTask('oxford_iiit_pet', 'natural', 'oxford_iiit_pet:*.*.*', 37),
    VtabTask('sun397', 'natural', 'sun397/tfds:4.*.*', 397),
    VtabTask('svhn', 'natural', 'svhn_cropped:3.*.*', 10),
    VtabTask('patch_camelyon', 'specialized', 'patch_camelyon:2.*.*', 2),
    VtabTask('eurosat', 'specialized', 'eurosat/rgb:2.*.*', 10),
    VtabTask('resisc45', 'specialized', 'resisc45:3.*.*', 45),
    VtabTask('diabetic_retinopathy', 'specialized',
             'diabetic_retinopathy_detection/btgraham-300:3.*.*', 5),
    VtabTask('clevr_count', 'structured', 'clevr:3.*.*', 8,
             label_rule='clevr_count', crop=False),
    VtabTask('clevr_distance', 'structured', 'clevr:3.*.*', 6,
             label_rule='clevr_distance', crop=False),
    VtabTask('dmlab', 'structured', 'dmlab:2.*.*', 6, crop=False),
    VtabTask('kitti_distance', 'structured', 'kitti:3.*.*', 4,
             label_rule='kitti_distance', crop=False),
    VtabTask('dsprites_location', 'structured', 'dsprites:2.*.*', 16,
             label_rule='dsprites_x_position', pixel_factor=255,
             crop=False, flip=False),
    VtabTask('dsprites_orientation', 'structured', 'dsprites:2.*.*', 16,
             label_rule='dsprites_orientation', pixel_factor=255, flip=False),
    VtabTask('smallnorb_azimuth', 'structured', 'smallnorb:2.*.*', 18,
             label_key='label_azimuth', flip=False),
    VtabTask('smallnorb_elevation', 'structured', 'smallnorb:2.*.*', 9,
             label_key='label_elevation'),
)}


# Training and validation examples of VTAB-1k.
_TRAIN_EXAMPLES, _VAL_EXAMPLES = 800, 200

# (split, from, to): of percentages, and of examples.
_Percentages = _Range = tuple[str, int, int]
_THREE_SPLITS = ('train', 0, 100), ('validation', 0, 100), ('test', 0, 100)
_TENTH_FOR_VAL = ('train', 0, 90), ('train', 90, 100), ('test', 0, 100)
_ONE_SPLIT = ('train', 0, 60), ('train', 60, 80), ('train', 80, 100)

# Of train, val and test.
_PARTS: dict[str, tuple[_Percentages, _Percentages, _Percentages]] = {
    'caltech101': _TENTH_FOR_VAL,
    'cifar100': _TENTH_FOR_VAL,
    'dtd': _THREE_SPLITS,
    'oxford_flowers102': _THREE_SPLITS,
    'oxford_iiit_pet': (('train', 0, 80), ('train', 80, 100), ('test', 0, 100)),
    'sun397': _THREE_SPLITS,
    'svhn_cropped': _TENTH_FOR_VAL,
    'patch_camelyon': _THREE_SPLITS,
    'eurosat': _ONE_SPLIT,
    'resisc45': _ONE_SPLIT,
    'diabetic_retinopathy_detection': _THREE_SPLITS,
    # The test split has no annotations.
    'clevr': (('train', 0, 90), ('train', 90, 100), ('validation', 0, 100)),
    'dmlab': _THREE_SPLITS,
    # The splits of TFDS, as the benchmark's code uses them; its paper's table
    # describes others.
    'kitti': _THREE_SPLITS,
    'dsprites': (('train', 0, 80), ('train', 80, 90), ('train', 90, 100)),
    'smallnorb': (('train', 0, 100), ('test', 0, 50), ('test', 50, 100)),
}

# Examples of the splits in use.
SIZES: dict[str, dict[str, int]] = {
    data_set: {split: published_sizes.EXAMPLES[data_set][split] for split, *_ in parts}
    for data_set, parts in _PARTS.items()}


def subsets(data_set: str, sizes: Mapping[str, int] | None = None) -> dict[str, str]:
  """{'train', 'val', 'trainval', 'test', 'train800', 'val200', 'train800val200'}.

  Values are in TFDS slicing syntax. The last three are those of VTAB-1k: its settings
  are chosen by training on train800 and scoring val200.

  Args:
    data_set: a name of `SIZES`.
    sizes: {split: number of examples} of a data set of this kind that is smaller than
      the real one; train800 and val200 then hold what there is.
  """
  sizes = sizes or SIZES[data_set]
  train, val, test = (_cut(part, sizes) for part in _PARTS[data_set])
  train800, val200 = _first(train, _TRAIN_EXAMPLES), _first(val, _VAL_EXAMPLES)
  # Neighbours in one split are written as one slice.
  trainval = [train, val]
  if train[0] == val[0] and train[2] == val[1]:
    trainval = [(train[0], train[1], val[2])]
  named = {'train': [train], 'val': [val], 'trainval': trainval, 'test': [test],
           'train800': [train800], 'val200': [val200],
           'train800val200': [train800, val200]}
  return {name: '+'.join(_written(part, sizes) for part in parts)
          for name, parts in named.items()}


def _cut(part: _Percentages, sizes: Mapping[str, int]) -> _Range:
  split, start, stop = part
  return split, sizes[split] * start // 100, sizes[split] * stop // 100


def _first(part: _Range, count: int) -> _Range:
  split, first, end = part
  return split, first, min(first + count, end)


def _written(part: _Range, sizes: Mapping[str, int]) -> str:
  split, first, end = part
  if (first, end) == (0, sizes[split]):
    return split
  start = first or ''
  stop = '' if end == sizes[split] else end
  return f'{split}[{start}:{stop}]'
