"""Cloud TPU VMs: queued resources, made, used, watched and made again with gcloud."""

import argparse
import collections
import dataclasses
import functools
import os
import pathlib
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence

from launch import shell, slice_flags, tpu_worker
from launch import workload as workload_lib
from launch.queued_resource import QueuedResource
from launch.tpu_job import TpuJob
from launch.workload import Workload
from vit_jax.parallel import tpu_slices
from vit_jax.parallel.rendezvous import TOKEN_VARIABLE
from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError

_sleep = time.sleep

ACTIONS = {
    'all': 'create what is missing, start, watch to the end, making preempted slices '
           'again; attaches to a job that runs already',
    'start': 'copy the code again and start anew on slices that are there',
    'status': 'of the queued resource and of the job', 'logs': 'their last lines',
    'delete': 'the queued resource with its slices'}


def add_flags(parser: argparse.ArgumentParser) -> None:
  slice_flags.add_flags(parser)
  parser.add_argument('--zone', required=True)
  parser.add_argument('--project', default='', help="default: gcloud's own")
  parser.add_argument('--runtime-version', default='', metavar='NAME',
                      help="default: the generation's")
  kind = parser.add_mutually_exclusive_group()
  for name in ('spot', 'reserved'):
    kind.add_argument(f'--{name}', dest='provisioning', action='store_const',
                      const=name, default='on-demand')
  parser.add_argument('--create-flag', action='append', default=[], metavar='FLAG',
                      help='for queued-resources create: --create-flag=--network=NAME')
  parser.add_argument('--ssh-flag', action='append', default=[], metavar='FLAG',
                      help='for ssh and scp: --ssh-flag=--internal-ip')
  parser.add_argument('--python', default='3.12', metavar='VERSION')
  parser.add_argument('--setup', default='', metavar='COMMAND',
                      help='shell command for every worker before the installation, '
                           'such as one that mounts the workdir; runs before every '
                           'start, so it must not mind a second time')
  parser.add_argument('--restarts', type=int, default=100, metavar='K',
                      help='how often a preempted job is started again')
  parser.add_argument('--poll', type=float, default=60, metavar='SECONDS')
  parser.add_argument('--delete-after', action='store_true',
                      help='delete the slices once the job has ended')
  parser.add_argument('--action', choices=ACTIONS, default='all',
                      help='; '.join(f'{k}: {v}' for k, v in ACTIONS.items()))


def jobs(workload: Workload, args: argparse.Namespace) -> list[TpuJob]:
  """One job for a training; one for each shard of a sweep."""
  slice_ = tpu_slices.parse(args.slice)
  slice_flags.check_shards_fit(workload, args, slice_, example='v5litepod-8')
  if args.poll < 0 or args.restarts < 0:
    raise UserError(f'--poll={args.poll} --restarts={args.restarts}: expected no '
                    'negative numbers.')
  if not pathlib.PurePosixPath(workload.workdir).is_absolute():
    raise UserError(f'--workdir={workload.workdir}: give an absolute path, of a disk '
                    'that all workers have mounted there (--setup can do that).')
  workload = _on_workers(workload)
  found = []
  for i in range(workload.shards or 1):
    name = f'{workload.name}-{i}' if workload.shards > 1 else workload.name
    more = [f'--shard={i}/{workload.shards}'] if workload.shards else []
    if slice_flags.is_multihost(args, slice_):
      more = ['--multihost']
      token = (TOKEN_VARIABLE, _secret('token', name))
      workload = dataclasses.replace(
          workload, environment=(*workload.environment, token))
    resource = QueuedResource(
        name, slice_, args.zone, args.project, args.slices, args.runtime_version,
        args.provisioning, tuple(args.create_flag), tuple(args.ssh_flag))
    resource.check_available()
    found.append(TpuJob(
        resource, str(archive_path(workload)),
        tpu_worker.install(name, args.python, args.setup),
        tpu_worker.start(name, workload, more), args.restarts))
  return found


def _on_workers(workload: Workload) -> Workload:
  inside = workload_lib.config_in_clone(workload.config)
  if not inside:
    raise UserError(
        f'--config={workload.config} is not in {workload_lib.clone()}, so it would not '
        'be copied to the workers: put it there and commit it.')
  return dataclasses.replace(workload, config=inside)


@functools.cache
def _secret(purpose: str, name: str) -> str:
  """Of this launcher; its dry run shows what its run takes."""
  return secrets.token_hex(16)


def archive_path(workload: Workload) -> pathlib.Path:
  """File of the packed code on this machine, by a name that nobody can foresee."""
  name = f'{_secret("archive", workload.name)}-{tpu_worker.archive_name(workload.name)}'
  return pathlib.Path(tempfile.gettempdir()) / name


def archive(workload: Workload) -> list[str]:
  """The command that packs the committed code."""
  return ['git', '-C', str(workload_lib.clone()), 'archive', '--format=tar.gz',
          f'--output={archive_path(workload)}', 'HEAD', '--', '.', ':(exclude)tests']


def show(workload: Workload, args: argparse.Namespace) -> str:
  planned = jobs(workload, args)
  lines = [shell.join(archive(workload))]
  if args.action not in ('all', 'start'):
    lines = [shell.join(words) for job in planned
             for words in _one_action(job, args.action)]
    return '\n'.join(lines)
  if _dirty(workload):
    lines.insert(0, '# --run would refuse: the clone has changes that are not '
                    'committed, and only commits are copied')
  for job in planned:
    create, describe, *rest = [shell.join(words) for words in job.commands()]
    if args.action == 'all':
      lines += [create, f'# every {args.poll:g} s, until it prints ACTIVE:', describe]
      rest += ['# from then on; SUSPENDED means preempted: delete, and from the top',
               f'# {describe}', f'# {shell.join(job.resource.delete())}']
    else:
      rest = rest[:-1]
    lines += rest
  return '\n'.join(lines)


def _one_action(job: TpuJob, action: str) -> list[list[str]]:
  """The commands of an action that needs no watching."""
  resource = job.resource
  return {
      'status': [resource.describe(),
                 resource.ssh(tpu_worker.status(resource.name), everywhere=False)],
      'logs': [resource.ssh(tpu_worker.logs(resource.name, 50))],
      'delete': [resource.delete()]}[action]


def _dirty(workload: Workload) -> bool:
  return dict(workload.environment).get(code_version.VARIABLE, '').endswith('-dirty')


def run(workload: Workload, args: argparse.Namespace) -> int:
  """Does `args.action`; returns the job's exit status, or gcloud's."""
  planned = jobs(workload, args)
  shell.check_program('gcloud', 'install the Google Cloud CLI, and log in with it')
  if args.action not in ('all', 'start'):
    return max(subprocess.run(words, check=False).returncode
               for job in planned for words in _one_action(job, args.action))
  if _dirty(workload):
    raise UserError('The clone has changes that are not committed, and only commits '
                    'are copied to the workers. Commit them first.')
  path = archive_path(workload)
  path.unlink(missing_ok=True)
  # Ours alone: every new start of the job copies it again.
  os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
  try:
    subprocess.run(archive(workload), check=True)
    if args.action == 'start':
      for job in planned:
        job.start()
      return 0
    return _watch(planned, args)
  finally:
    path.unlink(missing_ok=True)


def _watch(planned: Sequence[TpuJob], args: argparse.Namespace) -> int:
  """Brings all jobs to their ends; returns the worst exit status."""
  statuses: dict[str, int] = {}
  left_out = collections.Counter[str]()
  while len(statuses) < len(planned):
    for job in planned:
      if job.resource.name in statuses:
        continue
      if left_out[job.resource.name] < job.polls_to_leave_out:
        left_out[job.resource.name] += 1
        continue
      left_out[job.resource.name] = 0
      status = job.reconcile()
      if status is not None:
        statuses[job.resource.name] = status
        if args.delete_after:
          job.delete()
    if len(statuses) < len(planned):
      _sleep(args.poll)
  return max(statuses.values())
