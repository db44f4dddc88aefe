"""`python -m launch <local|slurm|tpu-vm|gke> --config=... --workdir=...`."""

import argparse
import sys

try:
  from launch import gke, local, slurm, tpu_vm
  from launch import job as job_lib
  from vit_jax.cli.main import split_overrides
  from vit_jax.runtime.errors import UserError
except ImportError as e:
  sys.exit(f'launch: error: cannot import vit_jax ({e}). Run it from a clone of the '
           'repository, with the library installed: pip install .')

# Engine -> (module, one line, example). A module has `add_flags(parser)`,
# `show(job, args) -> str` and `run(job, args) -> exit status`.
ENGINES = {
    'local': (local, 'processes on this machine, with simulated CPU devices',
              'python -m launch local --config=configs/digits.py '
              '--workdir=runs/digits --processes=2 --run'),
    'slurm': (slurm, 'an sbatch script; an array of them for a sweep',
              'python -m launch slurm --config=configs/digits.py '
              '--workdir=/shared/digits --nodes=2 --time=60 --run'),
    'tpu-vm': (tpu_vm, 'Cloud TPU VMs as queued resources, with gcloud',
               'python -m launch tpu-vm --config=configs/cifar10.py '
               '--workdir=/mnt/runs/c10 --slice=v5litepod-16 --zone=us-west4-a --spot'),
    'gke': (gke, 'a JobSet (or, for a sweep, a Job) on Kubernetes, with kubectl',
            'python -m launch gke --config=configs/cifar10.py --workdir=/runs/c10 '
            '--slice=v5litepod-16 --image=IMAGE --volume=runs:/runs'),
}


def make_parser():
  parser = argparse.ArgumentParser(
      prog='python -m launch', allow_abbrev=False,
      description='Starts `vit_jax train` or `sweep` somewhere. Prints the exact '
                  'commands or manifest; does them with --run.')
  engines = parser.add_subparsers(dest='engine', required=True, metavar='ENGINE')
  for name, (module, summary, example) in ENGINES.items():
    engine = engines.add_parser(
        name, help=summary, description=f'{summary[:1].upper()}{summary[1:]}.',
        allow_abbrev=False,
        epilog=f'Example: {example}. --config.<key>=<value>, and all words after --, '
               'are passed on to vit_jax.')
    job_lib.add_flags(engine)
    module.add_flags(engine)
  return parser


def main(argv=None) -> int:
  """Prints or runs; returns the exit status. User errors have no traceback."""
  argv = list(sys.argv[1:] if argv is None else argv)
  after = []
  if '--' in argv:
    argv, after = argv[:argv.index('--')], argv[argv.index('--') + 1:]
  overrides, rest = split_overrides(argv)
  args = make_parser().parse_args(rest)
  module = ENGINES[args.engine][0]
  try:
    job = job_lib.from_flags(args, [*overrides, *after])
    if args.run:
      return module.run(job, args)
    print(module.show(job, args))
  except UserError as e:
    print(f'launch {args.engine}: error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'launch {args.engine}: interrupted. What runs elsewhere goes on; the same '
          'command attaches to it.', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main())
