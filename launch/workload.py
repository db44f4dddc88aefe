"""What to run, said once; the engines differ only in how they start it.

A workload is one command of `vit_jax`. What a cluster makes of it is a job: of SLURM,
of Kubernetes, or the processes on one queued resource.
"""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Iterable

from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError

# As vit_jax.training.stalled_starts reads it, which imports JAX.
_STALLED_STARTS = 'VIT_JAX_MAX_STALLED_STARTS'
# Of names that gcloud, Kubernetes and SLURM all take; they add suffixes of their own.
_NAME = re.compile(r'[a-z]([a-z0-9-]{0,38}[a-z0-9])?')


@dataclasses.dataclass(frozen=True)
class Workload:
  """One `vit_jax train`, or one `vit_jax sweep` in several shards."""
  name: str
  config: str
  workdir: str
  # `--config.key=value` and the words after `--`, as they were given.
  extra: tuple[str, ...] = ()
  # 0: train. Otherwise sweep, its cells dealt out over so many workers.
  shards: int = 0
  # (name, value) pairs for every process.
  environment: tuple[tuple[str, str], ...] = ()

  def words(self, multihost: bool = False) -> list[str]:
    """The command after `vit_jax`; a sweep still lacks its `--shard`."""
    command = ['sweep' if self.shards else 'train',
               f'--config={self.config}', f'--workdir={self.workdir}', *self.extra]
    return command + ['--multihost'] * multihost


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--config', required=True, metavar='FILE[:ARG]',
                      help='as of vit_jax train; --config.<key>=<value> is passed on')
  parser.add_argument('--workdir', required=True, metavar='DIR',
                      help='as of vit_jax train; all processes must see it')
  parser.add_argument('--name', default='', metavar='NAME',
                      help="of the job; default: from the workdir's last part")
  parser.add_argument('--sweep', type=int, default=0, metavar='N',
                      help='run `vit_jax sweep` in N shards instead of `train`')
  parser.add_argument('--env', action='append', default=[], metavar='NAME=VALUE',
                      help='for every process; is printed, so no place for secrets')
  parser.add_argument('--stalled-starts', type=int, default=5, metavar='K',
                      help='starts in a row without a new checkpoint after which a '
                           'training gives up; 0: any number')
  parser.add_argument('--run', action='store_true',
                      help='do it; without, only print what would be done')
  parser.add_argument('--dry-run', dest='run', action='store_false',
                      help='the default')


def from_flags(args: argparse.Namespace, extra: Iterable[str]) -> Workload:
  """The workload of parsed flags; `extra` are words for `vit_jax`.

  Raises:
    UserError: for what no engine could start.
  """
  path, _ = _split_config(args.config)
  if not pathlib.Path(path).is_file():
    raise UserError(f'--config={args.config}: there is no file {path}.')
  if '://' in args.workdir:
    raise UserError(
        f'--workdir={args.workdir} is a URL; give a folder that all processes see at '
        'the same path, such as a mounted bucket or network disk.')
  if args.sweep < 0:
    raise UserError(f'--sweep={args.sweep}: give the number of shards, at least 1.')
  if args.stalled_starts < 0:
    raise UserError(f'--stalled-starts={args.stalled_starts}: expected no negative '
                    'number.')
  environment = ((_STALLED_STARTS, str(args.stalled_starts)),
                 *(_variable(text) for text in args.env))
  version = code_version.of_clone(clone())
  if version:
    environment = ((code_version.VARIABLE, version), *environment)
  return Workload(_name(args), args.config, args.workdir, tuple(extra), args.sweep,
                  environment)


def _variable(text: str) -> tuple[str, str]:
  name, equals, value = text.partition('=')
  if not equals:
    raise UserError(f'--env={text}: expected NAME=VALUE.')
  return name, value


def _name(args: argparse.Namespace) -> str:
  name = args.name
  if not name:
    last = pathlib.PurePath(args.workdir).name.lower()
    name = re.sub(r'[^a-z0-9]+', '-', last).strip('-')[:40].strip('-')
    name = name if name[:1].isalpha() else f'job-{name}'[:40].strip('-')
  if not _NAME.fullmatch(name):
    raise UserError(
        f'--name={name}: expected at most 40 lower-case letters, digits and hyphens, '
        'beginning with a letter.')
  return name


def config_in_clone(config: str) -> str:
  """A `--config` as a copy of the clone has it; '' for a file outside of the clone."""
  path, argument = _split_config(config)
  try:
    return f'{pathlib.Path(path).resolve().relative_to(clone())}{argument}'
  except ValueError:
    return ''


def with_absolute_paths(workload: Workload) -> Workload:
  """The same for processes that start in another folder."""
  path, argument = _split_config(workload.config)
  return dataclasses.replace(
      workload, config=f'{pathlib.Path(path).absolute()}{argument}',
      workdir=str(pathlib.Path(workload.workdir).absolute()))


def _split_config(config: str) -> tuple[str, str]:
  """('file.py', ':arg') of 'file.py:arg'; ('file.py', '') of 'file.py'."""
  path, colon, argument = config.partition(':')
  return path, colon + argument


def clone() -> pathlib.Path:
  """The folder that holds `launch`, `vit_jax` and `configs`."""
  return pathlib.Path(__file__).resolve().parent.parent
