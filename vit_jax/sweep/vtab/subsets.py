"""From a data set's splits to the subsets of VTAB, https://arxiv.org/abs/1910.04867.

No randomness is involved: every subset is a slice of the prepared order. Cut points are
percentages of a split rounded down, which for the real data sets, whose sizes stand
below, gives the numbers of the benchmark's own code (google-research/task_adaptation).
"""

# Examples of the splits in use.
SIZES = {
    'caltech101': {'train': 3060, 'test': 6084},
    'cifar100': {'train': 50_000, 'test': 10_000},
    'dtd': {'train': 1880, 'validation': 1880, 'test': 1880},
    'oxford_flowers102': {'train': 1020, 'validation': 1020, 'test': 6149},
    'oxford_iiit_pet': {'train': 3680, 'test': 3669},
    'sun397': {'train': 76_128, 'validation': 10_875, 'test': 21_750},
    'svhn_cropped': {'train': 73_257, 'test': 26_032},
    'patch_camelyon': {'train': 262_144, 'validation': 32_768, 'test': 32_768},
    'eurosat': {'train': 27_000},
    'resisc45': {'train': 31_500},
    'diabetic_retinopathy_detection': {
        'train': 35_126, 'validation': 10_906, 'test': 42_670},
    'clevr': {'train': 70_000, 'validation': 15_000},
    'dmlab': {'train': 65_550, 'validation': 22_628, 'test': 22_735},
    'kitti': {'train': 6347, 'validation': 423, 'test': 711},
    'dsprites': {'train': 737_280},
    'smallnorb': {'train': 24_300, 'test': 24_300},
}

_THREE_SPLITS = ('train', 0, 100), ('validation', 0, 100), ('test', 0, 100)
_TENTH_FOR_VAL = ('train', 0, 90), ('train', 90, 100), ('test', 0, 100)
_ONE_SPLIT = ('train', 0, 60), ('train', 60, 80), ('train', 80, 100)

# (split, from %, to %) of train, val and test.
_PARTS = {
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

_TRAIN_EXAMPLES, _VAL_EXAMPLES = 800, 200


def subsets(builder: str, sizes: dict | None = None) -> dict:
  """{'train', 'val', 'trainval', 'test', 'train800', 'val200', 'train800val200'}.

  Values are in TFDS slicing syntax. The last three are those of VTAB-1k: its settings
  are chosen by training on train800 and scoring val200.

  Args:
    builder: a name of `SIZES`.
    sizes: {split: number of examples} of a data set of this kind that is smaller than
      the real one; train800 and val200 then hold what there is.
  """
  sizes = sizes or SIZES[builder]
  train, val, test = (_cut(part, sizes) for part in _PARTS[builder])
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


def _cut(part, sizes):
  """(split, first, end) in examples."""
  split, start, stop = part
  return split, sizes[split] * start // 100, sizes[split] * stop // 100


def _first(part, count):
  split, first, end = part
  return split, first, min(first + count, end)


def _written(part, sizes):
  split, first, end = part
  if (first, end) == (0, sizes[split]):
    return split
  start = first or ''
  stop = '' if end == sizes[split] else end
  return f'{split}[{start}:{stop}]'
