"""What the processes of a run must have in common, see `parallel.agreement`."""

import sys
from typing import Any

import jax

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.config.settings import all_settings
from vit_jax.parallel import agreement
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.job import Job
from vit_jax.training.workdir import DatasetFacts


def check_settings(config: Config) -> None:
  """Compares settings, code and packages; all processes must call it, before a mesh.

  Raises:
    UserError: on all processes, if something differs.
  """
  if jax.process_count() > 1:
    agreement.check_same(settings(config) | software())


def check_plan(job: Job, dataset: DatasetFacts, start: int) -> None:
  """Compares data, mesh and length; all processes must call it, before a step.

  Raises:
    UserError: on all processes, if something differs.
  """
  agreement.check_same(plan(job, dataset, start))


def settings(config: Config) -> dict[str, Any]:
  """{'config.<key>': value} of all settings that must be the same.

  What a tuned file has set is compared instead of its path.
  """
  return {f'config.{key}': config_lib.get(config, key)
          for key, known in all_settings(Config).items() if not known.per_process}


def software() -> dict[str, Any]:
  """What computes."""
  device = jax.local_devices()[0]
  return {'python': '.'.join(map(str, sys.version_info[:2])),
          **{f'version of {name}': version
             for name, version in workdir_lib.versions().items()},
          'device': device.device_kind, 'devices': jax.device_count()}


def plan(job: Job, dataset: DatasetFacts, start: int) -> dict[str, Any]:
  """What is to be computed, by what the data and the work directory have said."""
  mesh = job.mesh
  devices = [d.id for d in mesh.devices.flat]
  return {
      'data set': dataset.name, 'training examples': dataset.num_examples,
      'classes': dataset.num_classes, 'names of the classes': dataset.class_names,
      'mesh': dict(mesh.shape), 'order of the devices': devices,
      'steps of the run': job.total_steps, 'first step': start}
