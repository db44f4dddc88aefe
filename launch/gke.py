"""Kubernetes with TPU nodes: a JobSet for a training, an indexed Job for a sweep."""

import argparse
import dataclasses
import pathlib
import subprocess
from typing import Any

from launch import manifest, shell, slice_flags
from launch import workload as workload_lib
from launch.workload import Workload
from vit_jax.parallel import tpu_slices
from vit_jax.runtime.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
  slice_flags.add_flags(parser)
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


def kubernetes_object(workload: Workload, args: argparse.Namespace) -> dict[str, Any]:
  """The JobSet or Job, as its manifest describes it.

  Raises:
    UserError: for slices that GKE does not have, or cannot use in this way.
  """
  slice_ = tpu_slices.parse(args.slice)
  if not slice_.gke_accelerator:
    raise UserError(f'GKE has no TPU {slice_.generation.name}; use v4 or a later one.')
  if args.slices < 1 or args.restarts < 0 or args.at_once < 0 or args.grace < 1:
    raise UserError(
        f'--slices={args.slices} --restarts={args.restarts} --at-once={args.at_once} '
        f'--grace={args.grace}: expected positive numbers.')
  if args.slices > 1 and slice_.hosts == 1:
    raise UserError(
        f'--slices={args.slices} of {slice_.name}: GKE connects slices of several '
        'hosts only, and this one has one.')
  slice_flags.check_shards_fit(workload, args, slice_, example='v5e:2x4')
  # The image has a copy of the clone as its working directory.
  workload = dataclasses.replace(
      workload, config=workload_lib.config_in_clone(workload.config) or workload.config)
  pod = manifest.pod(
      workload, slice_, args, multihost=slice_flags.is_multihost(args, slice_))
  if workload.shards:
    return manifest.indexed_job(workload, pod, args)
  return manifest.jobset(workload, slice_, pod, args)


def text(workload: Workload, args: argparse.Namespace) -> str:
  """The manifest as YAML."""
  import yaml  # ml_collections brings it.
  return yaml.safe_dump(kubernetes_object(workload, args), sort_keys=False, width=1000)


def _kubectl(args: argparse.Namespace) -> list[str]:
  return ['kubectl', *([f'--context={args.context}'] * bool(args.context)), 'apply',
          '-f', '-']


def _workdir_problem(workload: Workload, args: argparse.Namespace) -> str:
  """What is wrong with a work directory that ends with its pod; '' if nothing is."""
  workdir = pathlib.PurePosixPath(workload.workdir)
  if any(workdir.is_relative_to(value.partition(':')[2])
         for value in [*args.volume, *args.bucket]):
    return ''
  return (f'--workdir={workload.workdir} is in no --volume or --bucket, so that '
          'checkpoints would be lost with the pod; give one, such as '
          '--volume=CLAIM:/runs with --workdir=/runs/NAME.')


def show(workload: Workload, args: argparse.Namespace) -> str:
  slice_ = tpu_slices.parse(args.slice)
  problem = _workdir_problem(workload, args)
  refused = f'# --run would refuse: {problem}\n' if problem else ''
  return (f'{text(workload, args)}{refused}'
          f'# for node pools of --machine-type={slice_.machine_type} '
          f'--tpu-topology={slice_.topology}\n'
          f'# would be given to: {shell.join(_kubectl(args))}')


def run(workload: Workload, args: argparse.Namespace) -> int:
  manifest_text = text(workload, args)
  if problem := _workdir_problem(workload, args):
    raise UserError(problem)
  shell.check_program('kubectl', 'install it, with credentials for the cluster')
  return subprocess.run(_kubectl(args), input=manifest_text, text=True).returncode
