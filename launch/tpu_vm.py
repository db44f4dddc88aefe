"""Cloud TPU VMs: queued resources, made, used, watched and made again with gcloud."""

import dataclasses
import pathlib
import subprocess
import tempfile
import time

from launch import job as job_lib
from launch import shell, tpu_worker
from launch.job import Job
from launch.queued_resource import QueuedResource
from launch.tpu_run import Run
from vit_jax.plan import slices
from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError

_sleep = time.sleep

ACTIONS = {
    'all': 'create what is missing, start, watch to the end, making preempted slices '
           'again; attaches to a job that runs already',
    'start': 'copy the code again and start anew on slices that are there',
    'status': 'of the queued resource and of the job', 'logs': 'their last lines',
    'delete': 'the queued resource with its slices'}


def add_flags(parser):
  parser.add_argument('--slice', required=True, metavar='NAME',
                      help='such as v5litepod-256, v4-32 or v5e:16x16')
  parser.add_argument('--slices', type=int, default=1, metavar='N',
                      help='of that kind, training together')
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


def plan(job: Job, args) -> list[Run]:
  """One run for a training; one for each shard of a sweep."""
  found = slices.parse(args.slice)
  if job.shards and args.slices * found.hosts > 1:
    raise UserError(
        f'--sweep={job.shards} on {args.slices} slice(s) of {found.hosts} host(s): a '
        'shard of a sweep is one process; choose a slice of one host, such as '
        'v5litepod-8.')
  if args.poll < 0 or args.restarts < 0:
    raise UserError(f'--poll={args.poll} --restarts={args.restarts}: expected no '
                    'negative numbers.')
  if not pathlib.PurePosixPath(job.workdir).is_absolute():
    raise UserError(f'--workdir={job.workdir}: give an absolute path, of a disk that '
                    'all workers have mounted there (--setup can do that).')
  job = _on_workers(job)
  runs = []
  for i in range(job.shards or 1):
    name = f'{job.name}-{i}' if job.shards > 1 else job.name
    more = [f'--shard={i}/{job.shards}'] if job.shards else []
    if args.slices * found.hosts > 1:
      more = ['--multihost']
    resource = QueuedResource(
        name, found, args.zone, args.project, args.slices, args.runtime_version,
        args.provisioning, tuple(args.create_flag), tuple(args.ssh_flag))
    resource.check()
    runs.append(Run(resource, str(archive_path(job)), [
        tpu_worker.install(name, args.python, args.setup),
        tpu_worker.start(name, job, more)], args.restarts))
  return runs


def _on_workers(job):
  inside = job_lib.config_in_clone(job.config)
  if not inside:
    raise UserError(
        f'--config={job.config} is not in {job_lib.clone()}, so it would not be copied '
        'to the workers: put it there and commit it.')
  return dataclasses.replace(job, config=inside)


def archive_path(job: Job) -> pathlib.Path:
  """File of the packed code on this machine."""
  return pathlib.Path(tempfile.gettempdir()) / tpu_worker.archive_name(job.name)


def archive(job: Job) -> list[str]:
  """The command that packs the committed code."""
  return ['git', '-C', str(job_lib.clone()), 'archive', '--format=tar.gz',
          f'--output={archive_path(job)}', 'HEAD', '--', '.', ':(exclude)tests']


def show(job: Job, args) -> str:
  runs = plan(job, args)
  lines = [shell.join(archive(job))]
  if args.action not in ('all', 'start'):
    lines = [shell.join(words) for run in runs for words in _simple(run, args.action)]
    return '\n'.join(lines)
  if _dirty(job):
    lines.insert(0, '# --run would refuse: the clone has changes that are not '
                    'committed, and only commits are copied')
  for run in runs:
    create, describe, *rest = [shell.join(words) for words in run.commands()]
    if args.action == 'all':
      lines += [create, f'# every {args.poll:g} s, until it prints ACTIVE:', describe]
      rest += ['# from then on; SUSPENDED means preempted: delete, and from the top',
               f'# {describe}', f'# {shell.join(run.resource.delete())}']
    else:
      rest = rest[:-1]
    lines += rest
  return '\n'.join(lines)


def _simple(run, action):
  resource = run.resource
  return {
      'status': [resource.describe(),
                 resource.ssh(tpu_worker.status(resource.name), everywhere=False)],
      'logs': [resource.ssh(tpu_worker.logs(resource.name, 50))],
      'delete': [resource.delete()]}[action]


def _dirty(job):
  return dict(job.environment).get(code_version.VARIABLE, '').endswith('-dirty')


def run(job: Job, args) -> int:
  """Does `args.action`; returns the job's exit status, or gcloud's."""
  runs = plan(job, args)
  shell.need('gcloud', 'install the Google Cloud CLI, and log in with it')
  if args.action not in ('all', 'start'):
    return max(subprocess.run(words, check=False).returncode
               for each in runs for words in _simple(each, args.action))
  if _dirty(job):
    raise UserError('The clone has changes that are not committed, and only commits '
                    'are copied to the workers. Commit them first.')
  subprocess.run(archive(job), check=True)
  if args.action == 'start':
    for each in runs:
      each.start()
    return 0
  return _watch(runs, args)


def _watch(runs, args):
  statuses = {}
  while len(statuses) < len(runs):
    for each in runs:
      if each.resource.name in statuses:
        continue
      status = each.turn()
      if status is not None:
        statuses[each.resource.name] = status
        if args.delete_after:
          each.delete()
    if len(statuses) < len(runs):
      _sleep(args.poll)
  return max(statuses.values())
