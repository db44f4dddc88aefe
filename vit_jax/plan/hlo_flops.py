"""FLOPs of the matrix products and convolutions in a compiled program.

XLA's own `cost_analysis` counts a loop's body once; these are for one run of one
instruction, so that a caller can multiply. A multiply-add is 2.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax.plan.hlo import Computation, HloModule, Instruction


def flops(program: HloModule, computation: Computation, i: Instruction) -> int:
  """Of one instruction; a fusion counts what it holds."""
  if i.opcode == 'convolution':
    return _convolution(computation, i)
  if i.opcode == 'dot':
    return _dot(computation, i)
  if i.opcode != 'fusion':
    return 0
  inner = [program.computations[n] for n in i.called('calls')]
  return sum(flops(program, c, x) for c in inner for x in c.instructions)


def _dot(computation: Computation, i: Instruction) -> int:
  left = computation.by_name[i.operands[0]].arrays[0].dims
  contracted = re.findall(r'\d+', i.attribute('lhs_contracting_dims'))
  return 2 * i.arrays[0].elements * math.prod(left[int(d)] for d in contracted)


def _convolution(computation: Computation, i: Instruction) -> int:
  """Products of input and kernel positions that both exist, as XLA counts them."""
  left, right = (computation.by_name[n].arrays[0].dims for n in i.operands[:2])
  [(in_labels, kernel_labels, out_labels)] = re.findall(
      r'(\w+)_(\w+)->(\w+)', i.attribute('dim_labels'))
  out = i.arrays[0].dims
  products = (_size(right, kernel_labels, 'i') *
              _size(right, kernel_labels, 'o') *
              out[out_labels.index('b')])
  window = _window(i.attribute('window'))
  for position, label in enumerate(sorted(c for c in in_labels if c.isdigit())):
    products *= _valid(
        left[in_labels.index(label)], right[kernel_labels.index(label)],
        out[out_labels.index(label)], {k: v[position] for k, v in window.items()})
  return 2 * products


def _size(dims: Sequence[int], labels: str, label: str) -> int:
  return dims[labels.index(label)]


def _window(text: str) -> dict[str, list[str]]:
  """'{size=2x2 pad=0_0x1_1 ...}' as lists by name."""
  fields = dict(re.findall(r'(\w+)=([^\s}]+)', text))
  return {name: values.split('x') for name, values in fields.items()
          if name != 'rhs_reversal'}


def _valid(size: int, kernel: int, out: int, window: Mapping[str, str]) -> int:
  """Pairs of output and kernel positions that meet an element, along one dim."""
  stride, dilation, base = (
      int(window.get(n, 1)) for n in ('stride', 'rhs_dilate', 'lhs_dilate'))
  low = int(window.get('pad', '0_0').rpartition('_')[0])
  at = (np.arange(out)[:, None] * stride + np.arange(kernel)[None] * dilation - low)
  inside = (at >= 0) & (at % base == 0) & (at // base < size)
  return int(inside.sum())
