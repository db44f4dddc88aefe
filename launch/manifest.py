"""Kubernetes objects for a job, as nested dicts.

JobSet: https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2, TPUs on GKE:
https://cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice. For a JobSet GKE
sets the variables by which JAX finds the other processes, those of other slices
included.
"""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any

from launch import shell
from launch.workload import Workload
from vit_jax.parallel.rendezvous import TOKEN_VARIABLE
from vit_jax.parallel.tpu_slices import Slice
from vit_jax.runtime import code_version
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import RETRIED

# A Kubernetes object as nested dicts and lists.
Object = dict[str, Any]

_CONTAINER = 'vit-jax'
# TPU runtime, multi-slice coordinator, JAX's coordinator.
_PORTS = (8471, 8080, 8482)


def jobset(workload: Workload, slice_: Slice, pod: Object,
           args: argparse.Namespace) -> Object:
  """A JobSet with one child Job for each slice, and in it one pod for each host."""
  child = {
      'parallelism': slice_.hosts, 'completions': slice_.hosts,
      'completionMode': 'Indexed',
      # One lost process ends all; the JobSet starts all again.
      'backoffLimit': 0, 'podFailurePolicy': _pod_failure_policy('FailJob'),
      'template': pod}
  return {
      'apiVersion': 'jobset.x-k8s.io/v1alpha2', 'kind': 'JobSet',
      # All pods of a child Job on one slice, no two child Jobs on the same.
      'metadata': _metadata(workload, args, {
          'alpha.jobset.sigs.k8s.io/exclusive-topology':
              'cloud.google.com/gke-nodepool'}),
      'spec': {
          'network': {'enableDNSHostnames': True},
          'failurePolicy': {
              'maxRestarts': args.restarts,
              'rules': [{
                  'name': 'interrupted',
                  'action': 'RestartJobSetAndIgnoreMaxRestarts',
                  'onJobFailureReasons': ['PodFailurePolicy']}]},
          'replicatedJobs': [{
              'name': 'slice', 'replicas': args.slices, 'template': {'spec': child}}]}}


def indexed_job(workload: Workload, pod: Object, args: argparse.Namespace) -> Object:
  """A Job whose pods are the shards of a sweep."""
  return {
      'apiVersion': 'batch/v1', 'kind': 'Job', 'metadata': _metadata(workload, args),
      'spec': {
          'completionMode': 'Indexed', 'completions': workload.shards,
          'parallelism': min(args.at_once or workload.shards, workload.shards),
          # A failing shard does not end the others.
          'backoffLimitPerIndex': args.restarts, 'maxFailedIndexes': workload.shards,
          'podFailurePolicy': _pod_failure_policy('Ignore'),
          'template': pod}}


def _metadata(workload: Workload, args: argparse.Namespace,
              annotations: Mapping[str, str] | None = None) -> Object:
  metadata: Object = {'name': workload.name}
  if args.namespace:
    metadata['namespace'] = args.namespace
  if args.queue:
    metadata['labels'] = {'kueue.x-k8s.io/queue-name': args.queue}
  if annotations:
    metadata['annotations'] = dict(annotations)
  return metadata


def _pod_failure_policy(action: str) -> Object:
  """What happens to a pod that was preempted, or whose state is saved."""
  return {'rules': [
      {'action': action, 'onPodConditions': [
          {'type': 'DisruptionTarget', 'status': 'True'}]},
      {'action': action, 'onExitCodes': {
          'containerName': _CONTAINER, 'operator': 'In', 'values': [*RETRIED]}}]}


def pod(workload: Workload, slice_: Slice, args: argparse.Namespace,
        multihost: bool) -> Object:
  """The pod of one host."""
  volumes, mounts = _volumes(args, multihost)
  container = {
      'name': _CONTAINER, 'image': args.image, 'command': _command(workload, multihost),
      'env': [{'name': name, 'value': _literal(value)} for name, value in
              _variables(workload)],
      'resources': {'requests': {'google.com/tpu': slice_.chips_per_host},
                    'limits': {'google.com/tpu': slice_.chips_per_host}}}
  selector = {'cloud.google.com/gke-tpu-accelerator': slice_.gke_accelerator,
              'cloud.google.com/gke-tpu-topology': slice_.topology}
  spec = {'restartPolicy': 'Never', 'nodeSelector': selector,
          'terminationGracePeriodSeconds': args.grace, 'containers': [container]}
  if multihost:
    # The same for all pods, and known in the cluster alone; '' with an old JobSet.
    container['env'].append({'name': TOKEN_VARIABLE, 'valueFrom': {'fieldRef': {
        'fieldPath': "metadata.labels['jobset.sigs.k8s.io/jobset-uid']"}}})
    container['ports'] = [{'containerPort': port} for port in _PORTS]
    spec |= {'hostNetwork': True, 'dnsPolicy': 'ClusterFirstWithHostNet'}
  if args.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
    spec['tolerations'] = [{'key': 'cloud.google.com/gke-spot', 'operator': 'Equal',
                            'value': 'true', 'effect': 'NoSchedule'}]
  if args.service_account:
    spec['serviceAccountName'] = args.service_account
  if volumes:
    spec['volumes'], container['volumeMounts'] = volumes, mounts
  if args.bucket:
    return {'metadata': {'annotations': {'gke-gcsfuse/volumes': 'true'}}, 'spec': spec}
  return {'spec': spec}


def _variables(workload: Workload) -> list[tuple[str, str]]:
  # The image has its own version of the code, which this clone's need not be.
  variables = [(name, value) for name, value in workload.environment
               if name != code_version.VARIABLE]
  shell.assignments(variables)  # Checks the names.
  return variables


def _command(workload: Workload, multihost: bool) -> list[str]:
  words = [_literal(word) for word in ['vit_jax', *workload.words(multihost)]]
  if not workload.shards:
    return words
  # The shell sees the words as its arguments, so nothing in them is read as shell.
  script = f'exec "$@" --shard="$JOB_COMPLETION_INDEX/{workload.shards}"'
  return ['sh', '-c', script, 'sh', *words]


def _literal(text: str) -> str:
  # Kubernetes replaces $(NAME) in commands and variables; $$ stands for one $.
  return text.replace('$', '$$')


def _volumes(args: argparse.Namespace, host_network: bool
             ) -> tuple[list[Object], list[Object]]:
  """(volumes of the pod, where its container mounts them)."""
  volumes: list[Object] = []
  mounts: list[Object] = []
  for kind, values in (('volume', args.volume), ('bucket', args.bucket)):
    for value in values:
      source, _, path = value.partition(':')
      if not source or not pathlib.PurePosixPath(path).is_absolute():
        raise UserError(f'--{kind}={value}: expected {kind.upper()}:/PATH.')
      name = f'{kind}-{len(volumes)}'
      if kind == 'volume':
        content = {'persistentVolumeClaim': {'claimName': source}}
      else:
        attributes = {'bucketName': source}
        if host_network:
          # Else the bucket sees the node's service account, not the pod's.
          attributes['hostNetworkPodKSA'] = 'true'
        content = {'csi': {'driver': 'gcsfuse.csi.storage.gke.io',
                           'volumeAttributes': attributes}}
      volumes.append({'name': name, **content})
      mounts.append({'name': name, 'mountPath': path})
  return volumes, mounts
