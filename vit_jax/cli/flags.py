"""Flags that several commands have, and what they come to."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from vit_jax.config import Config
  from vit_jax.parallel.hosts import ProcessGroup


def positive(text: str) -> int:
  """A type of argparse: whole numbers from 1."""
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f'{number} is less than 1')
  return number


def size(text: str) -> tuple[int, int]:
  """A type of argparse: '384' or '384x256' (height x width)."""
  height, _, width = text.partition('x')
  return int(height), int(width or height)


def channels(text: str) -> tuple[float, ...]:
  """A type of argparse: '0.485,0.456,0.406' (red, green, blue), or one for all."""
  values = tuple(float(x) for x in text.split(','))
  return values * 3 if len(values) == 1 else values


def add_debug(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--debug', action='store_true',
                      help='the same recipe with a tiny model, images and a few steps: '
                      'takes seconds on a CPU')


def add_processes(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--coordinator_address', default='', metavar='HOST:PORT',
                      help='of process 0, for a run of several processes')
  parser.add_argument('--num_processes', type=int, default=0)
  parser.add_argument('--process_id', type=int, default=-1)
  parser.add_argument('--multihost', action='store_true',
                      help='find the other processes through the cluster')
  parser.add_argument('--start_timeout', type=float, default=300.0, metavar='SECONDS',
                      help='after which processes that have not come are named')


def process_group(args: argparse.Namespace) -> 'ProcessGroup':
  """What `add_processes` has been told."""
  from vit_jax.parallel import hosts
  return hosts.ProcessGroup(
      args.coordinator_address, args.num_processes, args.process_id, args.multihost,
      args.start_timeout)


def add_checkpoint_step(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--step', type=int, default=0,
                      help='checkpoint; default: the best kept one, else the newest')


def load_config(args: argparse.Namespace, overrides: Sequence[str]) -> 'Config':
  """The settings that --config, its overrides and --debug say, in this order."""
  from vit_jax import config as config_lib
  config = config_lib.load(args.config, overrides)
  from vit_jax.training.checks import check_run
  from vit_jax.training.debug_form import debug_form
  return debug_form(config) if args.debug else check_run(config)
