"""The command line: `vit_jax train | eval | predict | convert | sweep | plan | config`.

Nothing heavy is imported before a command runs, so help answers at once.
"""

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Sequence

import vit_jax
from vit_jax.cli import config, convert, evaluate, plan, predict, sweep, train
from vit_jax.runtime import platforms
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import INTERRUPTED, Stopped

# Libraries that would write to the user's screen. Set before they are imported;
# who wants their messages sets the variables otherwise.
_QUIET = {'TF_CPP_MIN_LOG_LEVEL': '3', 'GRPC_VERBOSITY': 'ERROR',
          'GLOG_minloglevel': '2', 'TF_ENABLE_ONEDNN_OPTS': '0'}

_OVERRIDES = ('Every setting can be changed with --config.<key>=<value>; '
              '`vit_jax config --config=FILE` prints them all.')

# Command -> module with its SUMMARY, EXAMPLE, add_flags(parser) and
# run(args, overrides).
COMMANDS = {
    'train': train, 'eval': evaluate, 'predict': predict, 'convert': convert,
    'sweep': sweep, 'plan': plan, 'config': config}
# Those that must not fall back to a CPU unasked.
_TRAINING = ('train', 'sweep')


def make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog='vit_jax', allow_abbrev=False,
      description='Vision Transformers in JAX/Flax, from a laptop to a TPU pod.')
  parser.add_argument('--version', action='version',
                      version=f'vit_jax {vit_jax.__version__}')
  commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
  for name, module in COMMANDS.items():
    command = commands.add_parser(
        name, help=module.SUMMARY, description=f'{module.SUMMARY.capitalize()}.',
        allow_abbrev=False,
        epilog=f'Example: {module.EXAMPLE.replace("%", "%%")}. '
               f'{"" if name == "convert" else _OVERRIDES}')
    module.add_flags(command)
  return parser


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
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


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit status. User errors have no traceback."""
  for name, value in _QUIET.items():
    os.environ.setdefault(name, value)
  overrides, rest = split_overrides(sys.argv[1:] if argv is None else argv)
  parser = make_parser()
  args, unknown = parser.parse_known_args(rest)
  if unknown:
    parser.error(_unknown(unknown[0], args.command))
  try:
    if args.command in _TRAINING:
      platforms.check_tpu_visible()
    platforms.rule_out_tpu()
    status = COMMANDS[args.command].run(args, overrides)
    sys.stdout.flush()
  except UserError as e:
    print(f'vit_jax {args.command}: error: {e}', file=sys.stderr)
    return e.exit_status
  except BrokenPipeError:
    # Whoever reads our output, such as `head`, has seen enough.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
  except KeyboardInterrupt:
    print(f'vit_jax {args.command}: interrupted', file=sys.stderr)
    return INTERRUPTED
  except Stopped as e:
    return e.exit_status
  return status or 0


def _unknown(word: str, command: str) -> str:
  if not word.startswith('-'):
    return f'unexpected argument {word!r}; see vit_jax {command} --help'
  probe = argparse.ArgumentParser(add_help=False)
  COMMANDS[command].add_flags(probe)
  known = [flag for action in probe._actions for flag in action.option_strings]
  near = difflib.get_close_matches(word.split('=')[0], known, n=1)
  hint = f'; did you mean {near[0]}?' if near else _setting(word)
  return f'unknown flag {word.split("=")[0]} of vit_jax {command}{hint}'


def _setting(word: str) -> str:
  """A hint at the setting of this name, or ''."""
  from vit_jax.config.sections import Config
  from vit_jax.config.settings import all_settings
  name = word.split('=')[0].lstrip('-')
  found = [key for key in all_settings(Config) if name in (key, key.split('.')[-1])]
  return f'; the setting is --config.{found[0]}' if len(found) == 1 else ''
