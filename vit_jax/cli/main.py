"""The command line: `vit_jax train | eval | predict | convert | sweep | plan | config`.

Nothing heavy is imported before a command runs, so help answers at once.
"""

import argparse
import difflib
import os
import signal
import sys

from vit_jax.runtime import platforms
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import Stopped

# Libraries that would write to the user's screen. Set before they are imported;
# who wants their messages sets the variables otherwise.
_QUIET = {'TF_CPP_MIN_LOG_LEVEL': '3', 'GRPC_VERBOSITY': 'ERROR',
          'GLOG_minloglevel': '2', 'TF_ENABLE_ONEDNN_OPTS': '0'}

_OVERRIDES = ('Every setting can be changed with --config.<key>=<value>; '
              '`vit_jax config --config=FILE` prints them all.')


def _train(parser):
  parser.add_argument('--config', required=True, metavar='FILE[:ARG]')
  parser.add_argument('--workdir', required=True, metavar='DIR',
                      help='checkpoints, metrics and settings; resumes if there')
  _debug(parser)
  _processes(parser)


def _debug(parser):
  parser.add_argument('--debug', action='store_true',
                      help='the same recipe with a tiny model, images and a few steps: '
                      'takes seconds on a CPU')


def _processes(parser):
  parser.add_argument('--coordinator_address', default='', metavar='HOST:PORT',
                      help='of process 0, for a run of several processes')
  parser.add_argument('--num_processes', type=int, default=0)
  parser.add_argument('--process_id', type=int, default=-1)
  parser.add_argument('--multihost', action='store_true',
                      help='find the other processes through the cluster')
  parser.add_argument('--start_timeout', type=float, default=300.0, metavar='SECONDS',
                      help='after which processes that have not come are named')


def _eval(parser):
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--split', default='', metavar='SPLIT',
                      help="TFDS slicing syntax; default: the config's test split, and "
                      "then all of the config's evaluators")
  parser.add_argument('--step', type=int, default=0,
                      help='checkpoint; default: the best kept one, else the newest')
  parser.add_argument('--evaluators', default='', metavar='NAME,...',
                      help='only these of config.evaluators')
  parser.add_argument('--kind', default='', metavar='KIND',
                      help='an evaluator that the config lacks: classify, fewshot, '
                      'probe or knn; its settings are --config.evaluators[0].<key>')
  parser.add_argument('--data', default='', metavar='NAME',
                      help="data set of --kind; default: the run's own")
  parser.add_argument('--json', action='store_true', help='print one JSON object')


def _count(text):
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f'{number} is less than 1')
  return number


def _predict(parser):
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--step', type=int, default=0,
                      help='checkpoint; default: the best kept one, else the newest')
  parser.add_argument('--top_k', type=_count, default=5, metavar='K')
  parser.add_argument('--json', action='store_true', help='one JSON object a line')
  parser.add_argument('images', nargs='+', metavar='IMAGE')


def _size(text):
  """'384' or '384x256' (height x width)."""
  height, _, width = text.partition('x')
  return int(height), int(width or height)


def _convert(parser):
  parser.add_argument('source', metavar='SRC', help='file, folder or work directory')
  parser.add_argument('destination', metavar='DST', nargs='?', default='',
                      help='new file (*.npz) or folder')
  parser.add_argument('--to', default='', metavar='FORMAT',
                      help='npz, big_vision, hf, timm or orbax')
  parser.add_argument('--list', action='store_true',
                      help='print names, shapes, dtypes and the model; write nothing')
  parser.add_argument('--no-verify', action='store_true',
                      help="don't run both weight sets on the same images")
  change = parser.add_argument_group('what the file cannot say, or is to change')
  for name in ('num_heads', 'num_classes', 'representation_size'):
    change.add_argument(f'--{name}', type=int, metavar='N')
  change.add_argument('--image_size', type=_size, metavar='HEIGHT[xWIDTH]',
                      help='positions are resized to it')
  change.add_argument('--position_grid', type=_size, metavar='H[xW]',
                      help="patches of the file's positions, if it can't say")
  change.add_argument('--position_resize', metavar='METHOD',
                      help='original, hf, timm or timm_npz; default: as the source')
  for name, help_ in (('pool', 'token, gap, map or none'),
                      ('class_token', 'auto, yes or no'),
                      ('gelu', 'exact, tanh or quick')):
    change.add_argument(f'--{name}', help=help_)
  change.add_argument('--layer_norm_eps', type=float, metavar='EPS')
  change.add_argument('--scan', choices=('true', 'false'),
                      help='blocks stacked (big_vision, orbax) or not')


def _sweep(parser):
  parser.add_argument('--config', default='', metavar='FILE[:ARG]',
                      help='with get_sweep(), or to be swept by --grid')
  parser.add_argument('--workdir', required=True, metavar='DIR',
                      help='all runs, results and the report; goes on if there')
  parser.add_argument('--tasks', default='', metavar='NAME,...',
                      help='only these tasks or groups; default: all')
  parser.add_argument('--grid', action='append', default=[], metavar='KEY=VALUE,...',
                      help='values of a setting; may be repeated')
  parser.add_argument('--seeds', type=_count, default=0, metavar='N',
                      help='runs that the reported median is of')
  parser.add_argument('--shard', default='', metavar='I/N',
                      help='this is worker I (from 0) of N on a shared --workdir')
  parser.add_argument('--keep_checkpoints', default='final', metavar='WHICH',
                      help='final (default: of the reported runs), all or none')
  _debug(parser)
  parser.add_argument('--plan', action='store_true',
                      help='print the runs, their steps and time; start nothing')
  parser.add_argument('--report', action='store_true',
                      help='write the report with what is finished; start nothing')
  _processes(parser)


def _plan(parser):
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
  parser.add_argument('--tune_limit', type=_count, default=12, metavar='N',
                      help='programs that --tune compiles at most')
  parser.add_argument('--output', default='', metavar='FILE',
                      help='of --tune, for train --config.tuned=FILE; an interrupted '
                      'search goes on from the file beside it')
  _debug(parser)
  parser.add_argument('--num_classes', type=int, default=0, metavar='N',
                      help='where the data are not here')
  parser.add_argument('--num_examples', type=int, default=0, metavar='N',
                      help='of the training split, where the data are not here')
  parser.add_argument('--save_hlo', default='', metavar='FILE',
                      help="write the compiled program's text")
  parser.add_argument('--json', action='store_true', help='print one JSON object')
  parser.add_argument('--table', action='store_true',
                      help="the ViT paper's pre-training compute from our FLOP count")


def _config(parser):
  parser.add_argument('--config', required=True, metavar='FILE[:ARG]')
  _debug(parser)
  parser.add_argument('--json', action='store_true', help='print JSON')


# Command -> (one line, flags, example).
COMMANDS = {
    'train': ('train or fine-tune, resuming where the work directory stands',
              _train, 'vit_jax train --config=configs/digits.py --workdir=/tmp/digits'
              ' --config.batch_size=64'),
    'eval': ('evaluate a trained run, its head or its features', _eval,
             "vit_jax eval --workdir=/tmp/digits --split='test[:50%]', or "
             'vit_jax eval --workdir=/tmp/digits --kind=fewshot --data=cifar100'),
    'predict': ('classify image files with a trained run', _predict,
                'vit_jax predict --workdir=/tmp/digits image.png --json'),
    'convert': ('convert a checkpoint between code bases, and prove it', _convert,
                'vit_jax convert ViT-B_16.npz vit_b16 --to=hf'),
    'sweep': ('run tasks x settings x seeds, select, and report', _sweep,
              'vit_jax sweep --config=configs/digits_sweep.py --workdir=/tmp/sweep'
              ' --grid optimizer.learning_rate=0.001,0.01'),
    'plan': ('what a run needs on a TPU slice, from the real compiler, without a TPU; '
             'exit status 0: it fits, 1: it does not, 2: bad input', _plan,
             'vit_jax plan --config=configs/imagenet.py --topology=v5e:4x4 --tune'),
    'config': ('print the complete settings of a run, start nothing', _config,
               'vit_jax config --config=configs/digits.py --config.seed=1'),
}


def make_parser():
  parser = argparse.ArgumentParser(
      prog='vit_jax', allow_abbrev=False,
      description='Vision Transformers in JAX/Flax, from a laptop to a TPU pod.')
  commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
  for name, (summary, add_flags, example) in COMMANDS.items():
    command = commands.add_parser(
        name, help=summary, description=f'{summary.capitalize()}.', allow_abbrev=False,
        epilog=f'Example: {example.replace("%", "%%")}. '
               f'{"" if name == "convert" else _OVERRIDES}')
    add_flags(command)
  return parser


def split_overrides(argv) -> tuple[list, list]:
  """(`--config.*` words, all others)."""
  overrides, rest = [], []
  words = list(argv)
  while words:
    word = words.pop(0)
    if word.startswith(('--config.', '-config.')):
      overrides.append(word)
      # `--config.key value`; a flag that follows is no value.
      if '=' not in word and words and not words[0].startswith('--'):
        overrides.append(words.pop(0))
    else:
      rest.append(word)
  return overrides, rest


def main(argv=None) -> int:
  """Runs a command; returns the exit status. User errors have no traceback."""
  for name, value in _QUIET.items():
    os.environ.setdefault(name, value)
  platforms.rule_out_tpu()
  overrides, rest = split_overrides(sys.argv[1:] if argv is None else argv)
  parser = make_parser()
  args, unknown = parser.parse_known_args(rest)
  if unknown:
    parser.error(_unknown(unknown[0], args.command))
  from vit_jax.cli import commands
  try:
    status = getattr(commands, f'run_{args.command}')(args, overrides)
  except UserError as e:
    print(f'vit_jax {args.command}: error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'vit_jax {args.command}: interrupted', file=sys.stderr)
    return 128 + signal.SIGINT
  except Stopped as e:
    return e.exit_status
  return status or 0


def _unknown(word, command):
  if not word.startswith('-'):
    return f'unexpected argument {word!r}; see vit_jax {command} --help'
  probe = argparse.ArgumentParser(add_help=False)
  COMMANDS[command][1](probe)
  flags = [flag for action in probe._actions for flag in action.option_strings]
  near = difflib.get_close_matches(word.split('=')[0], flags, n=1)
  hint = f'; did you mean {near[0]}?' if near else ''
  return f'unknown flag {word.split("=")[0]} of vit_jax {command}{hint}'




