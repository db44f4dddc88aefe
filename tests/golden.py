"""Golden data: weights, inputs and outputs of reference implementations.

Each folder of `tests/golden/` is one case; its meta.json names the source and the
config. Everything was computed in float32 on a CPU.
"""

import json
import pathlib

import numpy as np

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
  nested = {}
  for name, value in flat.items():
    *parents, leaf = name.split('/')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return nested


def flatten(nested: dict, prefix: str = '') -> dict:
  """Inverse of `unflatten`."""
  flat = {}
  for name, value in nested.items():
    if isinstance(value, dict):
      flat |= flatten(value, f'{prefix}{name}/')
    else:
      flat[prefix + name] = value
  return flat
