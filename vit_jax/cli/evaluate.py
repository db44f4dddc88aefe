"""`vit_jax eval`."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from vit_jax.cli import flags
from vit_jax.cli.trained import trained_run
from vit_jax.runtime.errors import UserError

SUMMARY = 'evaluate a trained run, its head or its features'
EXAMPLE = ("vit_jax eval --workdir=/tmp/digits --split='test[:50%]', or "
           'vit_jax eval --workdir=/tmp/digits --kind=fewshot --data=cifar100')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--split', default='', metavar='SPLIT',
                      help="TFDS slicing syntax; default: the config's test split, and "
                      "then all of the config's evaluators")
  flags.add_checkpoint_step(parser)
  parser.add_argument('--evaluators', default='', metavar='NAME,...',
                      help='only these of config.evaluators')
  parser.add_argument('--kind', default='', metavar='KIND',
                      help='an evaluator that the config lacks: classify, fewshot, '
                      'probe, knn or package.module:name; its settings are '
                      '--config.evaluators[0].<key>')
  parser.add_argument('--data', default='', metavar='NAME',
                      help="data set of --kind; default: the run's own")
  parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  from vit_jax.config import evaluators as evaluator_settings
  from vit_jax.evaluators import KINDS
  from vit_jax.training import workdir as workdir_lib
  chosen = [name for name in args.evaluators.split(',') if name]
  if chosen and args.kind:
    raise UserError('Give --evaluators for those of the config, or --kind for one '
                    'that it lacks.')
  if args.data and not args.kind:
    raise UserError(f'--data={args.data} needs a --kind: what to do with the data, '
                    f'{", ".join(KINDS)}.')
  config = workdir_lib.read_config(args.workdir)
  if args.kind:
    config, name = evaluator_settings.with_one_more(config, args.kind, args.data)
    chosen = [name]
  trained = trained_run(args, overrides, config=config)
  data = trained.config.data
  split = args.split or ('' if chosen else data.test_split or data.val_split)
  measured: dict[str, float] = {}
  told: dict[str, Any] = {'step': trained.step}
  if split:
    told['split'] = split
    measured |= trained.evaluate(split)
  if chosen or not args.split:
    measured |= trained.run_evaluators(chosen)
  if not measured:
    raise UserError(f'{args.workdir} has neither a test split, nor a validation split, '
                    'nor evaluators; give a --split or a --kind.')
  if args.json:
    print(json.dumps({**told, **measured}))
  else:
    where = f'  {data.name}[{split}]' if split else ''
    values = '  '.join(f'{name} {value:.4f}' for name, value in measured.items())
    print(f'step {trained.step}{where}  {values}')
