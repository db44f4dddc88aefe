"""`vit_jax plan`: from flags to the page, and to the exit status."""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.parallel import tpu_slices
from vit_jax.runtime.errors import UserError

if TYPE_CHECKING:  # JAX is imported late, see below.
  from vit_jax.plan.data_facts import Facts
  from vit_jax.plan.step_cost import StepCost, Target

FITS, DOES_NOT_FIT, BAD_INPUT = 0, 1, 2


def run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
  """The exit status: 0 it fits, 1 it does not, 2 the question makes no sense."""
  try:
    return _run(args, overrides)
  except UserError as e:
    print(f'vit_jax plan: error: {e}', file=sys.stderr)
    return BAD_INPUT


def _run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
  if args.table:
    from vit_jax.plan import paper_table
    print(paper_table.text())
    return FITS
  if not args.config or not args.topology:
    raise UserError(
        'Give --config=FILE and --topology=SLICE, such as --topology=v5e:16x16; or '
        '--table alone.')
  if args.tune and args.analytic:
    raise UserError('--tune compiles, --analytic does not; give one of them.')
  for name, least in (('slices', 1), ('num_classes', 0), ('num_examples', 0)):
    if getattr(args, name) < least:
      raise UserError(
          f'--{name}={getattr(args, name)}; expected a number from {least}.')
  slice_ = tpu_slices.parse(args.topology)
  config = config_lib.load(args.config, overrides)
  # Late: importing JAX takes longer than finding a mistake in a name.
  from vit_jax.training.checks import check_run
  from vit_jax.training.debug_form import debug_form
  config = debug_form(config) if args.debug else check_run(config)
  from vit_jax.plan import data_facts, report, step_cost, tpu_compiler
  target = step_cost.Target(slice_, args.slices)
  facts = data_facts.find(config, args.num_classes, args.num_examples)
  can_compile = tpu_compiler.available()
  if args.tune:
    if not can_compile:
      raise UserError(f'--tune needs the TPU compiler. {report.without_libtpu()}')
    return _tune(args, config, facts, target)
  if args.analytic or not can_compile:
    cost = step_cost.from_shapes(config, facts, target)
  else:
    cost = step_cost.from_compiler(config, facts, target, save_hlo=args.save_hlo)
  _show(args, config, facts, target, cost)
  if not args.json and not can_compile:
    print(report.without_libtpu())
  return FITS if cost.fits else DOES_NOT_FIT


def _show(args: argparse.Namespace, config: Config, facts: 'Facts', target: 'Target',
          cost: 'StepCost') -> None:
  from vit_jax.plan import report
  if args.json:
    print(json.dumps({'slice': target.name, **dataclasses.asdict(cost)}))
    return
  print(report.page(config, facts, target, cost))
  if cost.seconds:
    print(report.assumptions(target))


def _tune(args: argparse.Namespace, config: Config, facts: 'Facts',
          target: 'Target') -> int:
  from vit_jax.plan import report, step_cost, tune
  from vit_jax.plan.cost_cache import CostCache
  output = args.output or default_output(config, target)
  search = tune.Search(config, facts, target, args.tune_limit,
                       CostCache(f'{output}.programs'))
  trials = search.run()
  print(tune.table(trials, target))
  best = search.best
  if best is None:
    print('No form of this step fits and compiles. '
          f'{report.verdict(config, step_cost.from_shapes(config, facts, target))}')
    return DOES_NOT_FIT
  tune.write(output, best, target)
  print()
  _show(args, best.config, facts, target, best.cost)
  own = next((t for t in trials if t.config == search.config), None)
  if own and own is not best and own.time < float('inf'):
    print(f'That is {1 - best.time / own.time:.0%} less time than as configured.')
  print(f'Use it with: vit_jax train --config={args.config} --config.tuned={output}')
  return FITS


def default_output(config: Config, target: 'Target') -> str:
  """Such as 'tuned-L16-v5e-16x16.json'."""
  words = ['tuned', config.model.variant or 'custom', target.name]
  return '-'.join(re.sub(r'[^\w.]+', '-' if i == 2 else '', w)
                  for i, w in enumerate(words)) + '.json'
