"""Maximum difference from the reference implementations, as a Markdown table.

    python benchmarks/checkpoint_parity.py

Loads every golden case of the tests as a user would and compares what it computes in
float32 on a CPU with what the reference computed. The table is in docs/checkpoints.md.
"""

import os
import pathlib
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
_ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests'), str(_ROOT / 'tests/checkpoints')]

import numpy as np  # noqa: E402
import parity  # noqa: E402


def main() -> None:
  print('| case | file | quantity | largest value | largest difference |')
  print('|---|---|---|---|---|')
  for case, file in parity.CASES:
    largest = {}
    for name, actual, expected, _ in parity.measure(case, file):
      if name == 'pre_logits':
        continue
      difference = float(np.abs(actual - expected).max())
      value, before = largest.get(name, (0.0, 0.0))
      largest[name] = (max(value, float(np.abs(expected).max())),
                       max(before, difference))
    for name, (value, difference) in largest.items():
      if name == 'gradients':
        # `parity` divides them by five times the largest.
        value, difference, name = 1.0, 5 * difference, 'gradients / the largest'
      print(f'| {case} | {file} | {name} | {value:.2f} | {difference:.1e} |')


if __name__ == '__main__':
  main()
