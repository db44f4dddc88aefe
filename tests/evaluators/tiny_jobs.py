"""Jobs on the digits with a random model, and features given as arrays."""

import types

import jax
import numpy as np

from vit_jax import config as config_lib
from vit_jax.config.sections import MeshSection
from vit_jax.evaluators.features import Features
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.training import job as job_lib

CLASSES = [str(digit) for digit in range(10)]


def make(evaluators=(), data=None, num_classes=10, fsdp=1, devices=None):
  """A job of a checked config whose model has random parameters, head included."""
  config = config_lib.check(config_lib.from_dict(dict(
      total_steps=1, batch_size=16,
      model=dict(variant='', patch_size=(4, 4), width=16, depth=1, mlp_dim=32,
                 num_heads=2, pool='gap'),
      data={'name': 'digits', 'image_size': (8, 8), **(data or {})},
      evaluators=evaluators)))
  mesh = mesh_lib.create(MeshSection(fsdp=fsdp), devices)
  return job_lib.build(config, mesh, num_classes)


def parameters(job):
  """Random ones, the same for every mesh; a new head would be zeros."""
  params = job_lib.init_state(job).params
  head = params['head']['kernel']
  noise = np.random.default_rng(0).normal(size=head.shape).astype(np.float32)
  kernel = jax.device_put(noise, head.sharding)
  return {**params, 'head': {**params['head'], 'kernel': kernel}}


class GivenFeatures:
  """Stands for `FrozenFeatures`, without a model."""

  def __init__(self, x, labels, class_names=CLASSES):
    self._features = Features(x.astype(np.float32), labels.astype(np.int32), 0)
    self.input = types.SimpleNamespace(
        name='given', split='some', class_names=class_names, num_examples=len(x))

  def of(self, params):
    del params
    return self._features
