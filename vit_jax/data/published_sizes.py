"""How many examples the splits of public data sets have, as TFDS documents them.

TFDS itself knows the classes of a data set that is not prepared, but not its size.
"""

import re

EXAMPLES: dict[str, dict[str, int]] = {
    'caltech101': {'train': 3060, 'test': 6084},
    'cifar10': {'train': 50_000, 'test': 10_000},
    'cifar100': {'train': 50_000, 'test': 10_000},
    'clevr': {'train': 70_000, 'validation': 15_000, 'test': 15_000},
    'diabetic_retinopathy_detection':
        {'train': 35_126, 'validation': 10_906, 'test': 42_670},
    'dmlab': {'train': 65_550, 'validation': 22_628, 'test': 22_735},
    'dsprites': {'train': 737_280},
    'dtd': {'train': 1880, 'validation': 1880, 'test': 1880},
    'eurosat': {'train': 27_000},
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000},
    # Its public release of autumn 2011; of later ones this is an upper bound.
    'imagenet21k': {'full': 14_197_122},
    'kitti': {'train': 6347, 'validation': 423, 'test': 711},
    'oxford_flowers102': {'train': 1020, 'validation': 1020, 'test': 6149},
    'oxford_iiit_pet': {'train': 3680, 'test': 3669},
    'patch_camelyon': {'train': 262_144, 'validation': 32_768, 'test': 32_768},
    'resisc45': {'train': 31_500},
    'smallnorb': {'train': 24_300, 'test': 24_300},
    'sun397': {'train': 76_128, 'validation': 10_875, 'test': 21_750},
    'svhn_cropped': {'train': 73_257, 'test': 26_032, 'extra': 531_131},
}


def base_name(name: str) -> str:
  """'sun397' of 'sun397/tfds:4.*.*': a TFDS name without its config and version."""
  return re.split('[/:]', name)[0]


def split_sizes(name: str) -> dict[str, int]:
  """{split: number of examples} of a TFDS name; {} where it is not known."""
  return EXAMPLES.get(base_name(name), {})
