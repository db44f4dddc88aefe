"""`vit_jax config`."""

import argparse
import json
from collections.abc import Sequence

from vit_jax.cli import flags
from vit_jax.runtime.errors import UserError

SUMMARY = 'print the complete settings of a run, or explain them; start nothing'
EXAMPLE = ('vit_jax config --config=configs/digits.py --config.seed=1, or '
           'vit_jax config --explain optimizer')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--config', default='', metavar='FILE[:ARG]')
  parser.add_argument('--explain', default=None, metavar='KEY', nargs='?', const='',
                      help='what a setting or a section means; no KEY: all of them')
  flags.add_debug(parser)
  parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  if (args.explain is None) == (not args.config):
    raise UserError('Give either --config=FILE, whose settings are printed, or '
                    '--explain KEY.')
  if args.explain is not None:
    from vit_jax.config import explanation
    print(explanation.explain(args.explain))
    return
  from vit_jax import config as config_lib
  resolved = flags.load_config(args, overrides)
  # Through JSON: tuples become lists, which YAML shows as what they are.
  text = json.dumps(config_lib.to_dict(resolved), indent=2)
  if args.json:
    print(text)
  else:
    import ml_collections
    print(ml_collections.ConfigDict(json.loads(text)), end='')
