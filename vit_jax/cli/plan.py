"""`vit_jax plan`."""

import argparse
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.runtime import logs

SUMMARY = ('what a run needs on a TPU slice, from the real compiler, without a TPU; '
           'exit status 0: it fits, 1: it does not, 2: bad input')
EXAMPLE = 'vit_jax plan --config=configs/imagenet.py --topology=v5e:4x4 --tune'


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--config', default='', metavar='FILE[:ARG]')
  parser.add_argument('--topology', default='', metavar='SLICE',
                      help='v5e:16x16, or a type such as v4-32, v5litepod-256, v5p-128 '
                      'or v6e-64')
  parser.add_argument('--slices', type=int, default=1, metavar='N',
                      help='slices of that kind, joined by the data centre network')
  parser.add_argument('--analytic', action='store_true',
                      help='from shapes alone: compile nothing')
  parser.add_argument('--tune', action='store_true',
                      help='compile the alternatives and rank them')
  parser.add_argument('--tune_limit', type=flags.positive, default=12, metavar='N',
                      help='programs that --tune compiles at most')
  parser.add_argument('--output', default='', metavar='FILE',
                      help='of --tune, for train --config.tuned=FILE; an interrupted '
                      'search goes on from the file beside it')
  flags.add_debug(parser)
  parser.add_argument('--num_classes', type=int, default=0, metavar='N',
                      help='where the data are not here')
  parser.add_argument('--num_examples', type=int, default=0, metavar='N',
                      help='of the training split, where the data are not here')
  parser.add_argument('--save_hlo', default='', metavar='FILE',
                      help="write the compiled program's text")
  parser.add_argument('--json', action='store_true', help='print one JSON object')
  parser.add_argument('--table', action='store_true',
                      help="the ViT paper's pre-training compute from our FLOP count")


def run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
  from vit_jax.plan import environment
  environment.prepare()
  logs.quiet()
  from vit_jax.plan import command
  return command.run(args, overrides)
