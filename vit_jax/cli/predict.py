"""`vit_jax predict`."""

import argparse
import json
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.cli.trained import trained_run

SUMMARY = 'classify image files with a trained run'
EXAMPLE = 'vit_jax predict --workdir=/tmp/digits image.png --json'


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--workdir', required=True, metavar='DIR')
  flags.add_checkpoint_step(parser)
  parser.add_argument('--top_k', type=flags.positive, default=5, metavar='K')
  parser.add_argument('--json', action='store_true', help='one JSON object a line')
  parser.add_argument('images', nargs='+', metavar='IMAGE')


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  trained = trained_run(args, overrides, one_device=True)
  names = trained.dataset.class_names
  for path, probabilities in zip(
      args.images, trained.predict(args.images), strict=True):
    top = probabilities.argsort()[::-1][:args.top_k]
    if args.json:
      print(json.dumps({'image': path, 'classes': [
          {'class': int(i), 'name': names[i], 'probability': float(probabilities[i])}
          for i in top]}))
    else:
      print(path)
      for i in top:
        print(f'  {probabilities[i]:7.2%}  {names[i]}')
