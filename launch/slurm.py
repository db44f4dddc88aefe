"""SLURM: one batch script per job, an array of it for a sweep."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

from launch import local, shell
from launch import workload as workload_lib
from launch.workload import Workload
from vit_jax.parallel.rendezvous import TOKEN_VARIABLE
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import LOST_PEER, START_AGAIN

# What values of sbatch's options are made of; a directive is no shell line, so nothing
# else is let in.
_VALUE = re.compile(r'[A-Za-z0-9_.,:@+/=-]+')
# Hidden, for the work directory of a new run must look empty.
_FOLDER = '.launch'
# `time` is the limit of one start; a longer run is requeued.
# New at every start, and the same for all tasks of it.
_TOKEN = (f"export {TOKEN_VARIABLE}=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')")
_PASSED_ON = ('time', 'partition', 'account', 'qos', 'constraint', 'mem')


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--nodes', type=int, default=1, metavar='N')
  parser.add_argument('--tasks-per-node', type=int, default=0, metavar='N',
                      help='processes; default: one for each GPU, or 1')
  parser.add_argument('--gpus-per-node', type=int, default=0, metavar='N')
  parser.add_argument('--cpus-per-task', type=int, default=0, metavar='N')
  parser.add_argument('--devices-per-process', type=int, default=0, metavar='M',
                      help='simulated CPU devices, to try a job without GPUs')
  for name in _PASSED_ON:
    parser.add_argument(f'--{name}', default='', help=f'as of sbatch --{name}')
  parser.add_argument('--notice', type=int, default=120, metavar='SECONDS',
                      help='from the request to stop to the time limit')
  parser.add_argument('--at-once', type=int, default=0, metavar='N',
                      help='shards of a sweep that may run at the same time')
  parser.add_argument('--restarts', type=int, default=100, metavar='K',
                      help=f'how often status {START_AGAIN} or {LOST_PEER} '
                           'requeues the job')
  parser.add_argument('--python', default=sys.executable, metavar='FILE',
                      help='as it is called on the nodes')


def directives(workload: Workload, args: argparse.Namespace) -> list[str]:
  """Values of the script's #SBATCH lines.

  Raises:
    UserError: for values that sbatch would misread.
  """
  tasks = _tasks_per_node(args)
  if workload.shards and args.nodes * tasks > 1:
    raise UserError(
        f'--sweep={workload.shards} with --nodes={args.nodes} and {tasks} task(s) on '
        'each: a shard of a sweep is one process.')
  values: dict[str, object] = {
      'job-name': workload.name, 'nodes': args.nodes, 'ntasks-per-node': tasks}
  for name in ('gpus-per-node', 'cpus-per-task', *_PASSED_ON):
    value = getattr(args, name.replace('-', '_'))
    if value and not _VALUE.fullmatch(str(value)):
      raise UserError(f'--{name}={value}: expected letters, digits and _.,:@+/=-')
    if value:
      values[name] = value
  if workload.shards:
    at_once = f'%{args.at_once}' if args.at_once else ''
    values['array'] = f'0-{workload.shards - 1}{at_once}'
  lines = [f'--{name}={value}' for name, value in values.items()]
  # To the job's steps, not to this script: it decides what comes next.
  return [*lines, f'--signal=TERM@{args.notice}', '--requeue', '--open-mode=append',
          f'--output={_output(workload)}']


def _tasks_per_node(args: argparse.Namespace) -> int:
  tasks = args.tasks_per_node or args.gpus_per_node or 1
  if min(args.nodes, tasks) < 1 or args.notice < 1 or min(
      args.gpus_per_node, args.cpus_per_task, args.devices_per_process,
      args.at_once, args.restarts) < 0:
    raise UserError(
        f'--nodes={args.nodes} --tasks-per-node={args.tasks_per_node} '
        f'--gpus-per-node={args.gpus_per_node} --cpus-per-task={args.cpus_per_task} '
        f'--notice={args.notice}: expected positive numbers.')
  return tasks


def folder(workload: Workload) -> pathlib.Path:
  """Where the script and its output are kept."""
  return pathlib.Path(workload.workdir).absolute() / _FOLDER


def _output(workload: Workload) -> str:
  number = '%A_%a' if workload.shards else '%j'
  path = folder(workload) / f'{workload.name}-{number}.out'
  if re.search(r'[\n\r\\]', str(path)):
    raise UserError(f'--workdir={workload.workdir!r} has a line break or a backslash, '
                    'which sbatch cannot take as part of a file name.')
  # sbatch replaces % by parts of the job's number, and takes quotes away.
  parent = str(path.parent).replace('%', '%%').replace('"', r'\"')
  return f'"{parent}/{path.name}"'


def script(workload: Workload, args: argparse.Namespace) -> str:
  """The batch script."""
  environment = workload.environment
  if args.devices_per_process:
    environment += local.simulated_devices(args.devices_per_process)
  multihost = args.nodes * _tasks_per_node(args) > 1
  # Relative paths are those of the machine that submits.
  words = ['srun', '--kill-on-bad-exit=0', '--wait=60', args.python, '-m', 'vit_jax',
           *workload_lib.with_absolute_paths(workload).words(multihost)]
  command = shell.join(words)
  if workload.shards:
    command += f' --shard="$SLURM_ARRAY_TASK_ID"/{workload.shards}'
  number = '"$SLURM_JOB_ID"'
  if workload.shards:
    # The last task's own number is that of the whole array, too.
    number = '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
  return '\n'.join([
      '#!/bin/bash',
      *(f'#SBATCH {line}' for line in directives(workload, args)),
      '',
      f'cd {shell.quote(workload_lib.clone())} || exit 1',
      *filter(None, [shell.exports(environment)]),
      *([_TOKEN] if multihost else []),
      'status=0',
      f'{command} || status=$?',
      f'# {START_AGAIN}: the state is saved, the same command goes on. {LOST_PEER}: a '
      'process was lost.',
      f'if [ "$status" -eq {START_AGAIN} ] || [ "$status" -eq {LOST_PEER} ]; then',
      f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {args.restarts} ]; then',
      f'    scontrol requeue {number}',
      '  else',
      f'    echo "launch: not requeued: {args.restarts} restarts are used up" >&2',
      '  fi',
      'fi',
      'exit "$status"',
      ''])


def show(workload: Workload, args: argparse.Namespace) -> str:
  path = shell.quote(_script_path(workload))
  return script(workload, args) + f'\n# would be given to: sbatch {path}'


def _script_path(workload: Workload) -> pathlib.Path:
  return folder(workload) / f'{workload.name}.sh'


def _write_private(path: pathlib.Path, text: str) -> None:
  """Writes a script that its owner alone may read: --env may hold what others may not.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  temporary.unlink(missing_ok=True)
  descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o700)
  with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
    file.write(text)
  os.replace(temporary, path)


def run(workload: Workload, args: argparse.Namespace) -> int:
  """Writes the script beside its output and submits it."""
  text = script(workload, args)
  shell.check_program('sbatch', 'run this on a login node of the cluster')
  path = _script_path(workload)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_private(path, text)
  except OSError as e:
    raise UserError(f'Cannot write {path}: {e.strerror}.') from e
  return subprocess.run(['sbatch', str(path)], check=False).returncode
