"""`vit_jax convert`."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence

from vit_jax.cli import flags
from vit_jax.runtime import logs
from vit_jax.runtime.errors import UserError

SUMMARY = 'convert a checkpoint between code bases, and prove it'
EXAMPLE = 'vit_jax convert ViT-B_16.npz vit_b16 --to=hf'


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='SRC', help='file, folder or work directory')
  parser.add_argument('destination', metavar='DST', nargs='?', default='',
                      help='new file (*.npz) or folder')
  parser.add_argument('--to', default='', metavar='FORMAT',
                      help='npz, big_vision, hf, timm or orbax')
  parser.add_argument('--list', action='store_true',
                      help='print names, shapes, dtypes and the model; write nothing')
  parser.add_argument('--no-verify', action='store_true',
                      help="don't run both weight sets on the same images")
  add_changes(parser.add_argument_group(
      'what the file cannot say, or is to change'))


def add_changes(group: argparse._ArgumentGroup) -> None:
  """Flags that are settings of `vit_jax.load`; None where not given."""
  for name in ('num_heads', 'num_classes', 'representation_size'):
    group.add_argument(f'--{name}', type=int, metavar='N')
  group.add_argument('--image_size', type=flags.size, metavar='HEIGHT[xWIDTH]',
                     help='positions are resized to it')
  group.add_argument('--position_grid', type=flags.size, metavar='H[xW]',
                     help="patches of the file's positions, if it can't say")
  group.add_argument('--position_resize', metavar='METHOD',
                     help='original, hf, timm or timm_npz; default: as the source')
  for name, help_ in (('pool', 'token, gap, map or none'),
                      ('class_token', 'auto, yes or no'),
                      ('gelu', 'exact, tanh or quick')):
    group.add_argument(f'--{name}', help=help_)
  group.add_argument('--any_architecture', action='store_const', const=True,
                     help="read timm's architectures that were never compared, too")
  group.add_argument('--layer_norm_eps', type=float, metavar='EPS')
  for name in ('pixel_mean', 'pixel_std'):
    group.add_argument(f'--{name}', type=flags.channels, metavar='R,G,B',
                       help='of the pixels, from 0 to 1, that the weights take')
  group.add_argument('--averaged', type=_true_or_false, metavar='{true,false}',
                     help='which of raw and averaged weights to read; default: true')
  group.add_argument('--scan', type=_true_or_false, metavar='{true,false}',
                     help='blocks stacked (big_vision, orbax) or not')


def _true_or_false(text: str) -> bool:
  if text not in ('true', 'false'):
    raise argparse.ArgumentTypeError(f'{text!r} is neither true nor false')
  return text == 'true'


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  if overrides:
    raise UserError(
        f'Unexpected {overrides[0]}: a conversion has no config. Settings of the '
        'model are flags of their own, see vit_jax convert --help.')
  if bool(args.destination) == args.list:
    raise UserError('Give either a destination DST, or --list.')
  changes = argparse.ArgumentParser()
  add_changes(changes.add_argument_group())
  settings = {name: getattr(args, name) for name in vars(changes.parse_args([]))
              if getattr(args, name) is not None}
  logs.quiet()
  from vit_jax.checkpoints import convert
  if args.list:
    print(convert.listing(args.source, **settings))
    return
  with _exit_on_sigterm():
    lines = convert.convert(
        args.source, args.destination, args.to, verification=not args.no_verify,
        **settings)
  print('\n'.join(lines))


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
  # By default the process would end at once, without removing what is half written.
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
