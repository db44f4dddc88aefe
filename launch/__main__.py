"""`python -m launch <local|slurm|tpu-vm|gke> --config=... --workdir=...`."""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

try:
  import vit_jax.config  # noqa: F401  It needs what the library needs.
  from launch import gke, local, slurm, tpu_vm
  from launch import workload as workload_lib
  from vit_jax.cli.main import split_overrides
  from vit_jax.runtime.errors import UserError
  from vit_jax.runtime.stopping import INTERRUPTED
except ImportError as e:
  sys.exit(f'launch: error: cannot import vit_jax ({e}). Run it from a clone of the '
           'repository, with the library installed: pip install .')


class Engine(Protocol):
  """What a module of an engine has."""

  def add_flags(self, parser: argparse.ArgumentParser) -> None: ...

  def show(self, workload: workload_lib.Workload, args: argparse.Namespace) -> str:
    """What `run` would do, as text."""
    ...

  def run(self, workload: workload_lib.Workload, args: argparse.Namespace) -> int:
    """Does it; returns the exit status."""
    ...


class Entry(NamedTuple):
  engine: Engine
  summary: str
  example: str


ENGINES = {
    'local': Entry(
        local, 'processes on this machine, with simulated CPU devices',
        'python -m launch local --config=configs/digits.py --workdir=runs/digits '
        '--processes=2 --run'),
    'slurm': Entry(
        slurm, 'an sbatch script; an array of them for a sweep',
        'python -m launch slurm --config=configs/digits.py --workdir=/shared/digits '
        '--nodes=2 --time=60 --run'),
    'tpu-vm': Entry(
        tpu_vm, 'Cloud TPU VMs as queued resources, with gcloud',
        'python -m launch tpu-vm --config=configs/cifar10.py --workdir=/mnt/runs/c10 '
        '--slice=v5litepod-16 --zone=us-west4-a --spot'),
    'gke': Entry(
        gke, 'a JobSet (or, for a sweep, a Job) on Kubernetes, with kubectl',
        'python -m launch gke --config=configs/cifar10.py --workdir=/runs/c10 '
        '--slice=v5litepod-16 --image=IMAGE --volume=runs:/runs'),
}


def make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog='python -m launch', allow_abbrev=False,
      description='Starts `vit_jax train` or `sweep` somewhere. Prints the exact '
                  'commands or manifest; does them with --run.')
  engines = parser.add_subparsers(dest='engine', required=True, metavar='ENGINE')
  for name, (engine, summary, example) in ENGINES.items():
    command = engines.add_parser(
        name, help=summary, description=f'{summary[:1].upper()}{summary[1:]}.',
        allow_abbrev=False,
        epilog=f'Example: {example}. --config.<key>=<value>, and all words after --, '
               'are passed on to vit_jax.')
    workload_lib.add_flags(command)
    engine.add_flags(command)
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Prints or runs; returns the exit status. User errors have no traceback."""
  argv = list(sys.argv[1:] if argv is None else argv)
  after = []
  if '--' in argv:
    argv, after = argv[:argv.index('--')], argv[argv.index('--') + 1:]
  overrides, rest = split_overrides(argv)
  args = make_parser().parse_args(rest)
  engine = ENGINES[args.engine].engine
  try:
    workload = workload_lib.from_flags(args, [*overrides, *after])
    if args.run:
      return engine.run(workload, args)
    print(engine.show(workload, args))
  except UserError as e:
    print(f'launch {args.engine}: error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'launch {args.engine}: interrupted. What runs elsewhere goes on; the same '
          'command attaches to it.', file=sys.stderr)
    return INTERRUPTED
  return 0


if __name__ == '__main__':
  sys.exit(main())
