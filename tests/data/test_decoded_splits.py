"""Decoded splits that are kept for later runs."""

import numpy as np
import pytest

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data.decoded_splits import DecodedSplit, DecodedSplits, split_key
from vit_jax.preprocessing.placement import Placement

PLACEMENT = Placement(PreprocessSection(), (8, 8), PreprocessSection())


def key(split, data=DataSection()):
  return split_key(data, split, PLACEMENT)


def test_the_least_recently_used_split_is_dropped():
  made = []
  def get(name):
    def decode():
      made.append(name)
      one = np.zeros(1)
      return DecodedSplit(np.zeros(2**20, np.uint8), one, one, one)
    return splits.get(key(name), decode)
  splits = DecodedSplits(limit_gib=2.5 / 1024)
  for name in 'abacab':
    get(name)
  assert made == ['a', 'b', 'c', 'b']


def test_the_splits_of_the_run_do_not_matter():
  assert key('train') == key('train', DataSection(train_split='train[:9]'))
  assert key('train') != key('test')
  assert key('train') != key('train', DataSection(label_rule='clevr_count'))


def test_a_split_that_could_not_be_decoded_is_tried_again():
  splits = DecodedSplits()
  def damaged():
    raise OSError('damaged')
  with pytest.raises(OSError):
    splits.get(key('train'), damaged)
  split = DecodedSplit(*[np.zeros(1)] * 4)
  assert splits.get(key('train'), lambda: split) is split
