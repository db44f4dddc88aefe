"""`vit_jax sweep`."""

import argparse
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.runtime import logs
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import end_on_sigterm

SUMMARY = 'run tasks x settings x seeds, select, and report'
EXAMPLE = ('vit_jax sweep --config=configs/digits_sweep.py --workdir=/tmp/sweep '
           '--grid optimizer.learning_rate=0.001,0.01')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--config', default='', metavar='FILE[:ARG]',
                      help='with get_sweep(), or to be swept by --grid')
  parser.add_argument('--workdir', required=True, metavar='DIR',
                      help='all runs, results and the report; goes on if there')
  parser.add_argument('--tasks', default='', metavar='NAME,...',
                      help='only these tasks or groups; default: all')
  parser.add_argument('--grid', action='append', default=[], metavar='KEY=VALUE,...',
                      help='values of a setting; may be repeated')
  parser.add_argument('--seeds', type=flags.positive, default=0, metavar='N',
                      help='runs that the reported median is of')
  parser.add_argument('--shard', default='', metavar='I/N',
                      help='this is worker I (from 0) of N on a shared --workdir')
  parser.add_argument('--keep_checkpoints', default='final', metavar='WHICH',
                      help='final (default: of the reported runs), all or none')
  flags.add_debug(parser)
  parser.add_argument('--plan', action='store_true',
                      help='print the runs, their steps and time; start nothing')
  parser.add_argument('--report', action='store_true',
                      help='write the report with what is finished; start nothing')
  flags.add_processes(parser)


@end_on_sigterm()
def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  if args.plan and args.report:
    raise UserError('Give either --plan or --report.')
  logs.quiet()
  from vit_jax.sweep import command
  if args.report and not args.config:
    command.write_report(args.workdir)
    return
  settings = command.Settings(
      args.config, tuple(overrides), args.tasks, tuple(args.grid), args.seeds,
      args.shard, args.keep_checkpoints, args.debug)
  if args.plan or args.report:
    (command.print_plan if args.plan else command.write_report)(args.workdir, settings)
    return
  from vit_jax.parallel import hosts
  from vit_jax.runtime import compilation_cache
  compilation_cache.enable()
  with hosts.session(flags.process_group(args)):
    command.run(args.workdir, settings)
