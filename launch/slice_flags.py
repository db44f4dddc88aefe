"""The flags that say on which TPU slices a workload runs."""

import argparse

from launch.workload import Workload
from vit_jax.parallel.tpu_slices import Slice
from vit_jax.runtime.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--slice', required=True, metavar='NAME',
                      help='such as v5litepod-256, v4-32 or v5e:16x16')
  parser.add_argument('--slices', type=int, default=1, metavar='N',
                      help='of that kind, training together')


def is_multihost(args: argparse.Namespace, slice_: Slice) -> bool:
  """Whether the slices have more than one host."""
  return args.slices * slice_.hosts > 1


def check_shards_fit(
    workload: Workload, args: argparse.Namespace, slice_: Slice, example: str) -> None:
  """Raises UserError for a sweep on several hosts; `example` is a slice of one host."""
  if workload.shards and is_multihost(args, slice_):
    raise UserError(
        f'--sweep={workload.shards} on {args.slices} slice(s) of {slice_.hosts} '
        'host(s): a shard of a sweep is one process; choose a slice of one host, such '
        f'as {example}.')
