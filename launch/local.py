"""Processes on this machine, for trying what a pod will do.

Each sees simulated CPU devices of its own; JAX connects them as it would connect
hosts.
"""

import importlib.util
import os
import socket
import sys

from launch import processes, shell
from launch.job import Job
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import START_AGAIN

_DEVICES = '--xla_force_host_platform_device_count'


def add_flags(parser):
  parser.add_argument('--processes', type=int, default=1, metavar='N')
  parser.add_argument('--devices-per-process', type=int, default=0, metavar='M',
                      help='simulated CPU devices; default: 1 of each of several '
                           "processes, this machine's own of a single one")
  parser.add_argument('--restarts', type=int, default=0, metavar='K',
                      help=f'how often status {START_AGAIN} starts all again')


def plan(job: Job, args, port: int) -> list[tuple[tuple, list[str]]]:
  """(variables, words) of every process."""
  count = job.shards or args.processes
  if args.processes < 1 or args.devices_per_process < 0 or args.restarts < 0:
    raise UserError(
        f'--processes={args.processes} --devices-per-process='
        f'{args.devices_per_process} --restarts={args.restarts}: expected at least '
        'one process, and no negative numbers.')
  if job.shards and args.processes not in (1, job.shards):
    raise UserError(
        f'--sweep={job.shards} --processes={args.processes}: a sweep has one process '
        'for each shard; leave --processes out.')
  environment = job.environment
  devices = args.devices_per_process or (1 if count > 1 else 0)
  if devices:
    environment += simulated(devices)
  words = [sys.executable, '-m', 'vit_jax', *job.words()]
  commands = []
  for i in range(count):
    if job.shards:
      more = [f'--shard={i}/{count}']
    elif count > 1:
      more = [f'--coordinator_address=localhost:{port}', f'--num_processes={count}',
              f'--process_id={i}']
    else:
      more = []
    commands.append((environment, [*words, *more]))
  return commands


def simulated(devices: int) -> tuple:
  """Variables that give a process so many CPU devices."""
  kept = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
          if not flag.startswith(_DEVICES)]
  return (('JAX_PLATFORMS', 'cpu'),
          ('XLA_FLAGS', ' '.join([*kept, f'{_DEVICES}={devices}'])))


def show(job: Job, args) -> str:
  return '\n'.join(shell.with_environment(environment, words)
                   for environment, words in plan(job, args, free_port()))


def run(job: Job, args) -> int:
  if importlib.util.find_spec('jax') is None:
    raise UserError(
        f'{sys.executable} has no JAX: install the library there, pip install .')
  for attempt in range(args.restarts + 1):
    group = processes.Group(plan(job, args, free_port()), together=not job.shards)
    status = group.run()
    if status != START_AGAIN or group.asked_to_stop or attempt == args.restarts:
      return status
    print(f'launch: the state is saved; start {attempt + 2} of at most '
          f'{args.restarts + 1}', flush=True)


def free_port() -> int:
  """A port that nothing listens on now."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]
