"""Processes on this machine, for trying what a pod will do.

Each sees simulated CPU devices of its own; JAX connects them as it would connect
hosts.
"""

import argparse
import importlib.util
import os
import secrets
import sys

from launch import shell
from launch.supervisor import Command, Supervisor
from launch.workload import Workload
from vit_jax.parallel.rendezvous import TOKEN_VARIABLE
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.ports import reserved_port
from vit_jax.runtime.stopping import LOST_PEER, RETRIED, START_AGAIN

_DEVICES = '--xla_force_host_platform_device_count'


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--processes', type=int, default=1, metavar='N')
  parser.add_argument('--devices-per-process', type=int, default=0, metavar='M',
                      help='simulated CPU devices; default: 1 of each of several '
                           "processes, this machine's own of a single one")
  parser.add_argument('--restarts', type=int, default=0, metavar='K',
                      help=f'how often status {START_AGAIN} or {LOST_PEER} '
                           'starts all again')


def commands(workload: Workload, args: argparse.Namespace, port: int,
             token: str = '') -> list[Command]:
  """The command of every process; they meet at `port` and show each other `token`."""
  count = workload.shards or args.processes
  if args.processes < 1 or args.devices_per_process < 0 or args.restarts < 0:
    raise UserError(
        f'--processes={args.processes} --devices-per-process='
        f'{args.devices_per_process} --restarts={args.restarts}: expected at least '
        'one process, and no negative numbers.')
  if workload.shards and args.processes not in (1, workload.shards):
    raise UserError(
        f'--sweep={workload.shards} --processes={args.processes}: a sweep has one '
        'process for each shard; leave --processes out.')
  environment = workload.environment
  devices = args.devices_per_process or (1 if count > 1 else 0)
  if devices:
    environment += simulated_devices(devices)
  if token:
    environment += ((TOKEN_VARIABLE, token),)
  words = [sys.executable, '-m', 'vit_jax', *workload.words()]
  found = []
  for i in range(count):
    if workload.shards:
      more = [f'--shard={i}/{count}']
    elif count > 1:
      more = [f'--coordinator_address=localhost:{port}', f'--num_processes={count}',
              f'--process_id={i}']
    else:
      more = []
    found.append(Command(environment, [*words, *more]))
  return found


def simulated_devices(count: int) -> tuple[tuple[str, str], ...]:
  """Variables that give a process so many CPU devices."""
  kept = [flag for flag in os.environ.get('XLA_FLAGS', '').split()
          if not flag.startswith(_DEVICES)]
  return (('JAX_PLATFORMS', 'cpu'),
          ('XLA_FLAGS', ' '.join([*kept, f'{_DEVICES}={count}'])))


def show(workload: Workload, args: argparse.Namespace) -> str:
  with reserved_port() as port:
    return '\n'.join(shell.with_environment(command.environment, command.words)
                     for command in commands(workload, args, port))


def run(workload: Workload, args: argparse.Namespace) -> int:
  if importlib.util.find_spec('jax') is None:
    raise UserError(
        f'{sys.executable} has no JAX: install the library there, pip install .')
  start = 1
  while True:
    with reserved_port() as port:
      supervisor = Supervisor(
          commands(workload, args, port, secrets.token_hex(16)),
          together=not workload.shards)
      status = supervisor.run()
    if status not in RETRIED or supervisor.stop_requested or start > args.restarts:
      return status
    start += 1
    why = 'the state is saved' if status == START_AGAIN else 'a process was lost'
    print(f'launch: {why}; start {start} of at most {args.restarts + 1}', flush=True)
