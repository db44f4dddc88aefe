"""`vit_jax predict`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.cli import prediction_output as output_lib
from vit_jax.cli.trained import trained_run
from vit_jax.runtime.errors import DataError

SUMMARY = ('classify image files and folders of them with a trained run; exit status '
           '1: some were no images')
EXAMPLE = ('vit_jax predict --workdir=/tmp/digits image.png --json, or '
           'vit_jax predict --workdir=/tmp/digits images --output=found.csv')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--workdir', required=True, metavar='DIR')
  flags.add_checkpoint_step(parser)
  parser.add_argument('--top_k', type=flags.positive, default=5, metavar='K')
  parser.add_argument('--batch_size', type=flags.positive, default=64, metavar='N',
                      help='images that go through the model at once')
  form = parser.add_mutually_exclusive_group()
  form.add_argument('--json', action='store_true', help='one JSON object a line')
  form.add_argument('--one_line', action='store_true',
                    help='path, most probable class and its probability, next class, '
                    '... in one line, with tabs between them')
  form.add_argument('--output', default='', metavar='FILE',
                    help='write a table (.csv) or JSON lines (.jsonl) instead')
  parser.add_argument('images', nargs='+', metavar='PATH',
                      help='an image, or a folder: all images in it and its folders')


def run(args: argparse.Namespace, overrides: Sequence[str]) -> int:
  if args.output:
    output_lib.check_output(args.output)
  trained = trained_run(args, overrides, one_device=True)
  from vit_jax.data import find_images
  paths = find_images(args.images)
  names = trained.dataset.class_names
  shown = min(args.top_k, len(names))
  counter = output_lib.Counter(
      len(paths), shown=bool(args.output) or not sys.stdout.isatty())
  bad = 0
  with _output(args, names, shown) as write:
    predictions = trained.predict(paths, args.batch_size)
    for path, probabilities in zip(paths, predictions, strict=True):
      if isinstance(probabilities, DataError):
        bad += 1
        counter.erase()
        print(f'vit_jax predict: error: {probabilities}', file=sys.stderr)
      else:
        write(path, probabilities.argsort()[::-1][:shown], probabilities)
      counter.count()
  counter.erase()
  if args.output:
    print(f'{args.output}: {len(paths) - bad:,} images')
  if bad and len(paths) > 1:
    print(f'vit_jax predict: {bad:,} of {len(paths):,} files could not be read',
          file=sys.stderr)
  return 1 if bad else 0


def _output(args: argparse.Namespace, names: Sequence[str], shown: int
            ) -> contextlib.AbstractContextManager[output_lib.Write]:
  if args.output:
    return output_lib.to_file(args.output, names, shown)
  form = (output_lib.json_lines if args.json else
          output_lib.one_line if args.one_line else output_lib.blocks)
  return contextlib.nullcontext(form(sys.stdout, names, shown))
