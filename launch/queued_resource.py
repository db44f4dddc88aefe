"""The gcloud commands for one queued resource: one or several TPU slices.

https://cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources
"""

import dataclasses

from vit_jax.parallel.tpu_slices import Slice
from vit_jax.runtime.errors import UserError

_GROUP = ('gcloud', 'compute', 'tpus', 'queued-resources')

# https://cloud.google.com/tpu/docs/runtimes. Later generations have no Cloud TPU API.
_RUNTIMES = {'v2': 'tpu-ubuntu2204-base', 'v3': 'tpu-ubuntu2204-base',
             'v4': 'tpu-ubuntu2204-base', 'v5e': 'v2-alpha-tpuv5-lite',
             'v5p': 'v2-alpha-tpuv5', 'v6e': 'v2-alpha-tpuv6e'}


@dataclasses.dataclass(frozen=True)
class QueuedResource:
  """What gcloud needs to know of it; methods return the words of commands."""
  name: str
  slice: Slice
  zone: str
  project: str = ''
  # Slices that train together, connected by the data-centre network.
  slices: int = 1
  runtime: str = ''
  # 'on-demand', 'spot' or 'reserved'.
  provisioning: str = 'on-demand'
  # As they are, for `create`, and for `ssh` and `scp`.
  create_flags: tuple[str, ...] = ()
  ssh_flags: tuple[str, ...] = ()

  def _where(self) -> list[str]:
    project = [f'--project={self.project}'] if self.project else []
    return [f'--zone={self.zone}', *project]

  def create(self) -> list[str]:
    nodes = [f'--node-id={self.name}']
    if self.slices > 1:
      nodes = [f'--node-count={self.slices}', f'--node-prefix={self.name}']
    words = [*_GROUP, 'create', self.name, *nodes,
             f'--accelerator-type={self.slice.accelerator_type}',
             f'--runtime-version={self.runtime_version()}', *self._where()]
    if self.provisioning != 'on-demand':
      words.append(f'--{self.provisioning}')
    return [*words, *self.create_flags]

  def runtime_version(self) -> str:
    return self.runtime or _RUNTIMES[self.slice.generation.name]

  def describe(self) -> list[str]:
    """Prints the state, such as ACTIVE."""
    return [*_GROUP, 'describe', self.name, *self._where(),
            '--format=value(state.state)']

  def ssh(self, script: str, everywhere: bool = True) -> list[str]:
    """Runs a script on all workers of all slices, or on the first one."""
    which = 'all' if everywhere else '0'
    return [*_GROUP, 'ssh', self.name, f'--command={script}', f'--node={which}',
            f'--worker={which}', *self._where(), *self.ssh_flags]

  def scp(self, source: str, destination: str) -> list[str]:
    """Copies a file to all workers."""
    return [*_GROUP, 'scp', source, f'{self.name}:{destination}', '--node=all',
            '--worker=all', *self._where(), *self.ssh_flags]

  def delete(self) -> list[str]:
    """Ends and deletes its slices, then itself; returns when they are gone."""
    return [*_GROUP, 'delete', self.name, '--force', '--quiet', *self._where()]

  def check_available(self) -> None:
    """Raises UserError for what Cloud TPU does not have."""
    generation = self.slice.generation.name
    if generation not in _RUNTIMES:
      raise UserError(
          f'{self.slice.name}: the Cloud TPU API, which tpu-vm uses, knows '
          f'{", ".join(_RUNTIMES)}. Use gke for {generation}.')
    if not self.slice.accelerator_type:
      raise UserError(
          f'{self.slice.name} has no accelerator type that gcloud could be given; '
          f'choose one of {", ".join(self.slice.generation.topologies)}.')
    if self.slices < 1:
      raise UserError(f'--slices={self.slices}: expected at least 1.')
