"""All 19 VTAB tasks on tiny data in the true format of their builders, as a table.

    python benchmarks/vtab_tasks.py

Every row is a training of three steps in the debug form of configs/vtab.py and an
evaluation of the whole test subset, compared with the model applied to one image at a
time as TFDS's own reader gives them. The table is in docs/vtab.md.
"""

import math
import os
import pathlib
import sys
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
_ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests'), str(_ROOT / 'tests/vtab')]

import numpy as np  # noqa: E402
import task_run  # noqa: E402
from absl import logging  # noqa: E402

from vit_jax.sweep import vtab  # noqa: E402
from vit_jax.training.reuse import Reuse  # noqa: E402

COLUMNS = ('task', 'TFDS data set', 'train800 + val200', 'test', 'label', 'classes',
           'train transform', 'loss of steps 1 to 3', 'ln(classes)',
           'test images, right labels', 'test loss', 'one image at a time')


def main() -> None:
  logging.set_verbosity(logging.ERROR)
  print('| ' + ' | '.join(COLUMNS) + ' |')
  print('|' + '---|' * len(COLUMNS))
  reuse = Reuse()
  with tempfile.TemporaryDirectory() as folder:
    for name in vtab.TASKS:
      # The runs' own output would be in the table.
      with open(os.devnull, 'w') as nowhere:
        stdout, sys.stdout = sys.stdout, nowhere
        try:
          run = task_run.measure(name, f'{folder}/data', f'{folder}/{name}', reuse)
        finally:
          sys.stdout = stdout
      print('| ' + ' | '.join(_row(vtab.TASKS[name], run)) + ' |', flush=True)


def _row(task: vtab.VtabTask, run: task_run.Measured) -> tuple[str, ...]:
  real = vtab.subsets(task.data_set)
  right = int(np.sum(run.test_labels == run.expected_test_labels))
  transform = ['resize 448, crop 384'] if task.crop else ['resize 384']
  return (
      task.name, f'`{task.builder}`', f'`{real["train800val200"]}`',
      f'`{real["test"]}` ({_examples(real["test"], task.data_set):,})',
      f'rule `{task.label_rule}`' if task.label_rule else f'`{task.label_key}`',
      str(task.num_classes), ', '.join(transform + (['flip'] if task.flip else [])),
      ' '.join(f'{loss:.4f}' for loss in run.losses), f'{math.log(run.classes):.4f}',
      f'{len(run.test_labels)}, {right}', f'{run.loss:.5f}', f'{run.expected_loss:.5f}')


def _examples(spec: str, data_set: str) -> int:
  from vit_jax.data import splits
  sizes = {split: [n] for split, n in vtab.SIZES[data_set].items()}
  return sum(stop - start for _, start, stop in splits.resolve(spec, sizes, data_set))


if __name__ == '__main__':
  main()
