"""Few labels after pre-training without any, against the same labels from scratch.

    python benchmarks/masked_patches.py [--steps=3000] [--labels=20,50,100,200]

On the digits: configs/masked_patches.py:digits is trained once per seed on all training
images, without labels. Then configs/digits.py is trained on so many labelled images,
from that checkpoint and from random parameters: the same images, settings and number of
steps. Accuracies are those of the last step on all 359 test images.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
_ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(_ROOT))

from absl import logging  # noqa: E402

from vit_jax import config as config_lib  # noqa: E402
from vit_jax.config.sections import Config  # noqa: E402
from vit_jax.training.loop import train  # noqa: E402
from vit_jax.training.reuse import Reuse  # noqa: E402


def main() -> None:
  logging.set_verbosity(logging.ERROR)
  parser = argparse.ArgumentParser()
  parser.add_argument('--steps', type=int, default=3000, help='of the pre-training')
  parser.add_argument('--fine_steps', type=int, default=300)
  parser.add_argument('--labels', default='20,50,100,200')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--target', default='mean_colour')
  args = parser.parse_args()
  reuse, rows = Reuse(), []
  with tempfile.TemporaryDirectory() as folder:
    for seed in range(args.seeds):
      masked = f'{folder}/masked_{seed}'
      measured = _quiet(_with(
          'masked_patches.py:digits', seed=seed, total_steps=args.steps, eval_every=0,
          **{'schedule.warmup_steps': args.steps // 20,
             'masked_patches.target': args.target}), masked, reuse)
      print(f'seed {seed}: colours {measured["test/accuracy"]:.1%} right', flush=True)
      for labels in map(int, args.labels.split(',')):
        few = _fine(labels, seed, args.fine_steps)
        pair = [_quiet(config_lib.with_values(few, {'init.checkpoint': checkpoint}),
                       f'{folder}/{labels}_{seed}_{bool(checkpoint)}', reuse)
                for checkpoint in ('', masked)]
        rows.append((labels, *(run['test/accuracy'] for run in pair)))
        print('{} labels: scratch {:.1%}, pre-trained {:.1%}'.format(*rows[-1]),
              flush=True)
  _table(rows)


def _with(file: str, **values: Any) -> Config:
  return config_lib.with_values(config_lib.load(f'{_ROOT}/configs/{file}'), values)


def _fine(labels: int, seed: int, steps: int) -> Config:
  """configs/digits.py on other images for every seed, evaluated at the end alone."""
  return _with('digits.py', **{
      'seed': seed, 'total_steps': steps, 'eval_every': 0,
      'checkpoint.best_metric': '', 'schedule.warmup_steps': steps // 10,
      'data.train_split': f'train[{seed * labels}:{(seed + 1) * labels}]'})


def _quiet(config: Config, workdir: str, reuse: Reuse) -> dict[str, float]:
  """`train` without its progress lines."""
  with open(os.devnull, 'w') as nowhere:
    stdout, sys.stdout = sys.stdout, nowhere
    try:
      return train(config, workdir, reuse)
    finally:
      sys.stdout = stdout


def _table(rows: list[tuple[int, float, float]]) -> None:
  print('| labels | from scratch | pre-trained without labels |\n|---|---|---|')
  for labels in sorted({row[0] for row in rows}):
    cells = []
    for column in (1, 2):
      values = [100 * row[column] for row in rows if row[0] == labels]
      cells.append(f'{statistics.mean(values):.1f} '
                   f'({", ".join(f"{v:.1f}" for v in values)})')
    print(f'| {labels} | {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
