"""`vit_jax plan`: from flags to the page, and to the exit status."""

import dataclasses
import json
import re
import sys

from vit_jax import config as config_lib
from vit_jax.plan import slices
from vit_jax.runtime.errors import UserError

FITS, DOES_NOT_FIT, BAD_INPUT = 0, 1, 2


def run(args, overrides) -> int:
  """The exit status: 0 it fits, 1 it does not, 2 the question makes no sense."""
  try:
    return _run(args, overrides)
  except UserError as e:
    print(f'vit_jax plan: error: {e}', file=sys.stderr)
    return BAD_INPUT


def _run(args, overrides):
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
  slice_ = slices.parse(args.topology)
  config = config_lib.load(args.config, overrides)
  # Late: importing JAX takes longer than finding a mistake in a name.
  from vit_jax.training.checks import check_run
  from vit_jax.training.debug_form import debug_form
  config = debug_form(config) if args.debug else check_run(config)
  from vit_jax.plan import compile as compile_lib
  from vit_jax.plan import data_facts, report, trial
  target = trial.Target(slice_, args.slices)
  facts = data_facts.find(config, args.num_classes, args.num_examples)
  can_compile = compile_lib.available()
  if args.tune:
    if not can_compile:
      raise UserError(f'--tune needs the TPU compiler. {report.without_libtpu()}')
    return _tune(args, config, facts, target)
  if args.analytic or not can_compile:
    result = trial.analyse(config, facts, target)
  else:
    result = trial.compiled(config, facts, target, save_hlo=args.save_hlo)
  _show(args, config, facts, target, result)
  if not args.json and not can_compile:
    print(report.without_libtpu())
  return FITS if result.fits else DOES_NOT_FIT


def _show(args, config, facts, target, result):
  from vit_jax.plan import report
  if args.json:
    print(json.dumps({'slice': target.name, **dataclasses.asdict(result)}))
    return
  print(report.page(config, facts, target, result))
  if result.seconds:
    print(report.assumptions(target))


def _tune(args, config, facts, target):
  from vit_jax.plan import report, trial, tune
  output = args.output or default_output(config, target)
  search = tune.Search(config, facts, target, args.tune_limit,
                       trial.Cache(f'{output}.programs'))
  tries = search.run()
  print(tune.table(tries, target))
  best = search.best
  if best is None:
    print('No form of this step fits and compiles. '
          f'{report.verdict(config, trial.analyse(config, facts, target))}')
    return DOES_NOT_FIT
  tune.write(output, best, target)
  print()
  _show(args, best.config, facts, target, best.result)
  own = next((t for t in tries if t.config == search.config), None)
  if own and own is not best and own.time < float('inf'):
    print(f'That is {1 - best.time / own.time:.0%} less time than as configured.')
  print(f'Use it with: vit_jax train --config={args.config} --config.tuned={output}')
  return FITS


def default_output(config, target) -> str:
  """Such as 'tuned-L16-v5e-16x16.json'."""
  words = ['tuned', config.model.variant or 'custom', target.name]
  return '-'.join(re.sub(r'[^\w.]+', '-' if i == 2 else '', w)
                  for i, w in enumerate(words)) + '.json'
