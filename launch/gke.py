"""Kubernetes with TPU nodes: a JobSet for a training, an indexed Job for a sweep."""

import dataclasses
import pathlib
import subprocess

from launch import job as job_lib
from launch import manifest, shell
from launch.job import Job
from vit_jax.plan import slices
from vit_jax.runtime.errors import UserError


def add_flags(parser):
  parser.add_argument('--slice', required=True, metavar='NAME',
                      help='such as v5litepod-256, v4-32 or v5e:16x16')
  parser.add_argument('--slices', type=int, default=1, metavar='N',
                      help='of that kind, training together')
  parser.add_argument('--image', required=True,
                      help='container image with vit_jax and the configs in its '
                           'working directory')
  parser.add_argument('--spot', action='store_true')
  parser.add_argument('--queue', default='', metavar='NAME',
                      help="Kueue's LocalQueue")
  parser.add_argument('--restarts', type=int, default=3, metavar='K',
                      help='starts again after failures; those after a preemption are '
                           'not counted')
  parser.add_argument('--at-once', type=int, default=0, metavar='N',
                      help='shards of a sweep that may run at the same time')
  parser.add_argument('--volume', action='append', default=[], metavar='CLAIM:PATH',
                      help='mounts a PersistentVolumeClaim')
  parser.add_argument('--bucket', action='append', default=[], metavar='BUCKET:PATH',
                      help='mounts a Cloud Storage bucket with the Cloud Storage FUSE '
                           'driver; for the workdir, one with a hierarchical namespace')
  parser.add_argument('--service-account', default='', metavar='NAME')
  parser.add_argument('--namespace', default='')
  parser.add_argument('--context', default='', metavar='NAME',
                      help="of kubectl; default: kubectl's own")
  parser.add_argument('--grace', type=int, default=120, metavar='SECONDS',
                      help='from the request to stop until the process is killed')


def plan(job: Job, args) -> dict:
  """The manifest.

  Raises:
    UserError: for slices that GKE does not have, or cannot use in this way.
  """
  found = slices.parse(args.slice)
  if not found.gke_accelerator:
    raise UserError(f'GKE has no TPU {found.generation.name}; use v4 or a later one.')
  if args.slices < 1 or args.restarts < 0 or args.at_once < 0 or args.grace < 1:
    raise UserError(
        f'--slices={args.slices} --restarts={args.restarts} --at-once={args.at_once} '
        f'--grace={args.grace}: expected positive numbers.')
  if args.slices > 1 and found.hosts == 1:
    raise UserError(
        f'--slices={args.slices} of {found.name}: GKE connects slices of several hosts '
        'only, and this one has one.')
  if job.shards and args.slices * found.hosts > 1:
    raise UserError(
        f'--sweep={job.shards} on {args.slices} slice(s) of {found.hosts} host(s): a '
        'shard of a sweep is one process; choose a slice of one host, such as '
        'v5e:2x4.')
  # The image has a copy of the clone as its working directory.
  job = dataclasses.replace(
      job, config=job_lib.config_in_clone(job.config) or job.config)
  pod = manifest.pod(job, found, args, multihost=args.slices * found.hosts > 1)
  if job.shards:
    return manifest.indexed_job(job, pod, args)
  return manifest.jobset(job, found, pod, args)


def text(job: Job, args) -> str:
  """The manifest as YAML."""
  import yaml  # ml_collections brings it.
  return yaml.safe_dump(plan(job, args), sort_keys=False, width=1000)


def _kubectl(args):
  return ['kubectl', *([f'--context={args.context}'] * bool(args.context)), 'apply',
          '-f', '-']


def _lost(job, args) -> str:
  """What is wrong with a work directory that ends with its pod; '' if nothing is."""
  workdir = pathlib.PurePosixPath(job.workdir)
  if any(workdir.is_relative_to(value.partition(':')[2])
         for value in [*args.volume, *args.bucket]):
    return ''
  return (f'--workdir={job.workdir} is in no --volume or --bucket, so that checkpoints '
          'would be lost with the pod; give one, such as --volume=CLAIM:/runs with '
          '--workdir=/runs/NAME.')


def show(job: Job, args) -> str:
  found, lost = slices.parse(args.slice), _lost(job, args)
  refused = f'# --run would refuse: {lost}\n' if lost else ''
  return (f'{text(job, args)}{refused}'
          f'# for node pools of --machine-type={found.machine_type} '
          f'--tpu-topology={found.topology}\n'
          f'# would be given to: {shell.join(_kubectl(args))}')


def run(job: Job, args) -> int:
  manifest_text = text(job, args)
  if lost := _lost(job, args):
    raise UserError(lost)
  shell.need('kubectl', 'install it, with credentials for the cluster')
  return subprocess.run(_kubectl(args), input=manifest_text, text=True).returncode
