"""Golden data: weights, inputs and outputs of reference implementations.

Each folder of `tests/golden/` is one case; its meta.json names the source and the
config. Everything was computed in float32 on a CPU.
"""

import json
import pathlib

import numpy as np
from flax import traverse_util

FOLDER = pathlib.Path(__file__).parent / 'golden'


def load_case(name: str) -> dict:
  """{'meta': ..., 'io': flat arrays, 'params', 'grads', ...: nested arrays}."""
  folder = FOLDER / name
  case = {'meta': json.loads((folder / 'meta.json').read_text())}
  for file in sorted(folder.glob('*.npz')):
    with np.load(file) as arrays:
      flat = dict(arrays)
    case[file.stem] = flat if file.stem == 'io' else unflatten(flat)
  return case


def unflatten(flat: dict) -> dict:
  """Nested dict from names joined by '/'."""
  return traverse_util.unflatten_dict(flat, sep='/')


def flatten(nested: dict) -> dict:
  """Inverse of `unflatten`."""
  return traverse_util.flatten_dict(nested, sep='/')
