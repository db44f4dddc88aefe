"""Which decoded splits stay in memory between runs."""

import dataclasses

import numpy as np

from vit_jax.data.decoded_splits import DecodedSplits


def test_the_least_recently_used_split_is_dropped():
  @dataclasses.dataclass
  class Split:
    images: np.ndarray
  made = []
  def get(name):
    def make():
      made.append(name)
      return Split(np.zeros(2**20, np.uint8))
    return splits.get(name, make)
  splits = DecodedSplits(limit_gib=2.5 / 1024)
  for name in 'abacab':
    get(name)
  assert made == ['a', 'b', 'c', 'b']
