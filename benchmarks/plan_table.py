"""Plans of ViTs on TPU slices, as a table: memory, estimated step time, MFU, layout.

    python benchmarks/plan_table.py FOLDER [--only=B/16] [--slice=v5e:4x4] [--limit=4]
    python benchmarks/plan_table.py FOLDER --print

Compiles a few forms of every model's train step for every slice with the real TPU
compiler and keeps the best. A row takes minutes to an hour of one CPU. Every compiled
program and every finished row is kept under FOLDER, so that the command goes on where
it was stopped, and --print shows what there is at any time.

The work is the same for every model: AdamW with a bfloat16 first moment, clipping by
the global norm, softmax cross-entropy over 1,000 classes, 224 pixels, mean pooling.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from vit_jax.plan import environment  # noqa: E402

# Before JAX is imported.
environment.prepare()

from vit_jax import config as config_lib  # noqa: E402
from vit_jax.config.sections import Config  # noqa: E402
from vit_jax.parallel import tpu_slices  # noqa: E402
from vit_jax.plan import data_facts, report, step_cost, tune  # noqa: E402
from vit_jax.plan.cost_cache import CostCache  # noqa: E402
from vit_jax.runtime.files import write_json  # noqa: E402

# Images per chip.
MODELS = {'S/16': 64, 'B/16': 64, 'L/16': 64, 'H/14': 32}
SLICES = ('v5e:4x4', 'v5e:16x16', 'v4-32', 'v5p-32')


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--only', choices=tuple(MODELS), default='')
  parser.add_argument('--slice', choices=SLICES, default='')
  parser.add_argument('--limit', type=int, default=4, help='programs per row')
  parser.add_argument('--print', action='store_true', dest='show')
  args = parser.parse_args(argv)
  args.folder.mkdir(parents=True, exist_ok=True)
  for model in MODELS:
    for name in SLICES:
      wanted = args.only in ('', model) and args.slice in ('', name)
      if wanted and not args.show and not _file(args.folder, model, name).exists():
        print(f'{model} on {name}', file=sys.stderr, flush=True)
        _row(args.folder, model, name, args.limit)
  print(table(args.folder))


def config_of(model: str, devices: int) -> Config:
  """The configuration of a row, before any form of its step is tried."""
  return config_lib.check(config_lib.from_dict(dict(
      total_steps=100_000, batch_size=MODELS[model] * devices,
      model=dict(variant=model, pool='gap', position_embedding='sincos2d'),
      data=dict(name='imagenet2012', train=dict(crop='inception', flip=True)),
      optimizer=dict(name='adamw', moment_dtype='bfloat16', clip_norm=1.0,
                     weight_decay=0.1))))


def _row(folder: pathlib.Path, model: str, name: str, limit: int) -> None:
  target = step_cost.Target(tpu_slices.parse(name))
  config = config_of(model, target.devices)
  facts = data_facts.find(config)
  search = tune.Search(config, facts, target, limit,
                       CostCache(folder / f'{_stem(model, name)}.programs.json'))
  trials = search.run()
  best = search.best
  write_json(_file(folder, model, name), {
      'model': model, 'slice': name, 'programs': len(trials),
      'ranking': tune.table(trials, target).splitlines(),
      'form': tune.describe(best.config) if best else 'no form fits',
      'images_per_chip': MODELS[model],
      'gib': best.cost.total / 2**30 if best else 0,
      'hbm_gib': target.slice.hbm_bytes / 2**30,
      'milliseconds': best.cost.seconds * 1e3 if best else 0,
      'milliseconds_low': best.cost.seconds_low * 1e3 if best else 0,
      'mfu': report.mfu(target, best.cost) if best else 0,
      'mfu_low': report.mfu(target, best.cost, low=True) if best else 0,
      'images_per_second': config.batch_size / best.cost.seconds if best else 0})


def table(folder: pathlib.Path) -> str:
  """A Markdown table of the finished rows."""
  lines = ['| model | slice | images/chip | HBM per chip, GiB | est. step ms (low) | '
           'est. MFU (low) | est. images/s | best of N forms |',
           '|---|---|---|---|---|---|---|---|']
  for model in MODELS:
    for name in SLICES:
      path = _file(folder, model, name)
      if not path.exists():
        lines.append(f'| {model} | {name} | {MODELS[model]} | not compiled yet '
                     '| | | | |')
        continue
      row = json.loads(path.read_text(encoding='utf-8'))
      lines.append(
          f'| {model} | {name} | {row["images_per_chip"]} | {row["gib"]:.1f} of '
          f'{row["hbm_gib"]:.0f} | {row["milliseconds"]:.0f} '
          f'({row["milliseconds_low"]:.0f}) | {row["mfu"]:.0%} '
          f'({row["mfu_low"]:.0%}) | {row["images_per_second"]:,.0f} | {row["form"]}, '
          f'of {row["programs"]} |')
  return '\n'.join(lines)


def _stem(model: str, name: str) -> str:
  return f'{model}-{name}'.replace('/', '').replace(':', '-')


def _file(folder: pathlib.Path, model: str, name: str) -> pathlib.Path:
  return folder / f'{_stem(model, name)}.json'


if __name__ == '__main__':
  main(sys.argv[1:])
