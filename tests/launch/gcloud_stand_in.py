"""In the place of gcloud: checks its arguments, notes them, and plays a small cloud.

Started as a program. $STAND_IN is its folder: `states` has one line for each answer of
`describe` (the last one stays), `exists` says that there is a queued resource, `calls`
gets one JSON list for each call, `unreachable` makes the next `ssh` fail whose command
holds its text, and `homes` has a home folder for each worker, where
`ssh` runs its command with a shell as sshd would. When an `ssh` that starts a job
returns, the job is running, however busy this machine is.

The flags are those of the reference pages of `gcloud compute tpus queued-resources`,
Google Cloud SDK, as of 2025; only what they have in common is left out.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

FOLDER = pathlib.Path(os.environ['STAND_IN'])
GROUP = ['compute', 'tpus', 'queued-resources']
WORKERS = 2


def _parser():
  parser = argparse.ArgumentParser(allow_abbrev=False)
  commands = parser.add_subparsers(dest='subcommand', required=True)
  flags = {
      'create': ['accelerator-type!', 'runtime-version!', 'node-id', 'node-count',
                 'node-prefix', 'network', 'subnetwork', 'service-account', 'labels',
                 'metadata', 'valid-until-duration', 'spot?', 'reserved?', 'async?',
                 'internal-ips?'],
      'describe': ['format'],
      'delete': ['force?', 'quiet?', 'async?'],
      'ssh': ['command!', 'node', 'worker', 'internal-ip?', 'tunnel-through-iap?',
              'batch-size', 'ssh-key-file'],
      'scp': ['node', 'worker', 'recurse?', 'internal-ip?', 'batch-size']}
  for name, its_flags in flags.items():
    command = commands.add_parser(name, allow_abbrev=False)
    for flag in [*its_flags, 'zone!', 'project']:
      options = {'action': 'store_true'} if flag.endswith('?') else {
          'required': flag.endswith('!')}
      command.add_argument(f'--{flag.rstrip("?!")}', **options)
    command.add_argument('names', nargs=2 if name == 'scp' else 1)
  return parser


def create(args):
  if (args.node_id is None) == (args.node_count is None):
    sys.exit('exactly one of --node-id and --node-count must be given')
  if args.spot and args.reserved:
    sys.exit('--spot and --reserved exclude each other')
  if (FOLDER / 'exists').exists():
    sys.exit('ALREADY_EXISTS')
  nodes = int(args.node_count or 1)
  for node in range(nodes):
    for worker in range(WORKERS):
      (FOLDER / 'homes' / f'{node}-{worker}').mkdir(parents=True)
  (FOLDER / 'exists').write_text(str(nodes))


def describe(args):
  if not (FOLDER / 'exists').exists():
    sys.exit('ERROR: (gcloud) NOT_FOUND: Resource not found')
  if args.format != 'value(state.state)':
    sys.exit('the format that is read')
  states = (FOLDER / 'states').read_text().split()
  if len(states) > 1:
    (FOLDER / 'states').write_text('\n'.join(states[1:]))
  print(states[0])


def delete(args):
  if not args.quiet:
    sys.exit('would ask')
  if not args.force:
    sys.exit('FAILED_PRECONDITION: it has nodes')
  # The machines go, and all that runs on them.
  for path in (FOLDER / 'homes').glob('*/vit_jax/*/pid'):
    try:
      os.killpg(int(path.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      pass
  shutil.rmtree(FOLDER / 'homes')
  (FOLDER / 'exists').unlink()


def _homes(args):
  if not (FOLDER / 'exists').exists():
    sys.exit('NOT_FOUND')
  for home in sorted((FOLDER / 'homes').iterdir()):
    node, worker = home.name.split('-')
    if (args.node or '0') in ('all', node) and (args.worker or '0') in ('all', worker):
      yield home


def ssh(args):
  unreachable = FOLDER / 'unreachable'
  if unreachable.exists() and unreachable.read_text() in args.command:
    unreachable.unlink()
    sys.exit(255)
  print('SSH: Attempting to connect to worker 0...')
  for home in _homes(args):
    before = _starts(home)
    # sshd gives the command to the login shell, in the home folder.
    done = subprocess.run(['bash', '-c', args.command], cwd=home, env={
        'HOME': str(home), 'STAND_IN': str(FOLDER),
        'PATH': f'{FOLDER / "worker-bin"}:/usr/bin:/bin'})
    if done.returncode:
      sys.exit(done.returncode)
    if 'setsid' in args.command:
      _wait_for_start(home, before)


def _starts(home):
  """How many jobs have been started there."""
  started = home / 'started'
  return started.read_text().count('\n') if started.exists() else 0


def _wait_for_start(home, before):
  give_up = time.monotonic() + 120
  while _starts(home) == before:
    if time.monotonic() > give_up:
      sys.exit('the job does not start')
    time.sleep(0.01)


def scp(args):
  source, destination = args.names
  name, path = destination.split(':')
  for home in _homes(args):
    shutil.copy(source, home / path)


def main(argv):
  with open(FOLDER / 'calls', 'a') as calls:
    calls.write(json.dumps(argv) + '\n')
  if argv[:3] != GROUP:
    sys.exit(f'unknown: {argv}')
  args = _parser().parse_args(argv[3:])
  globals()[args.subcommand](args)


if __name__ == '__main__':
  main(sys.argv[1:])
