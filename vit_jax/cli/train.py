"""`vit_jax train`."""

import argparse
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.runtime import logs
from vit_jax.runtime.stopping import end_on_sigterm

SUMMARY = 'train or fine-tune, resuming where the work directory stands'
EXAMPLE = ('vit_jax train --config=configs/digits.py --workdir=/tmp/digits '
           '--config.batch_size=64')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--config', required=True, metavar='FILE[:ARG]')
  parser.add_argument('--workdir', required=True, metavar='DIR',
                      help='checkpoints, metrics and settings; resumes if there')
  flags.add_debug(parser)
  flags.add_processes(parser)


@end_on_sigterm()
def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  config = flags.load_config(args, overrides)
  logs.quiet()
  from vit_jax.parallel import hosts
  from vit_jax.runtime import compilation_cache
  compilation_cache.enable()
  import jax

  from vit_jax.training import device_memory
  try:
    with hosts.session(flags.process_group(args)):
      from vit_jax.training.loop import train
      train(config, args.workdir)
  except jax.errors.JaxRuntimeError as e:
    if not device_memory.is_exhausted(e):
      raise
    raise device_memory.advice(config, jax.device_count(), e) from e
