"""A run with every augmentation on: resuming, and other numbers of devices."""

import shutil

import jax
import numpy as np
import pytest
import runs

from vit_jax import config as config_lib
from vit_jax.config.sections import MeshSection
from vit_jax.data import open_input
from vit_jax.objectives.classification import Classification
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.training.loop import train
from vit_jax.training.trained_run import TrainedRun

EVERYTHING = (
    '--config.data.train.randaugment_layers=2', '--config.data.train.greyscale=0.2',
    '--config.data.train.jitter=(0.4, 0.4, 0.4, 0.1)', '--config.data.train.erase=0.25',
    '--config.data.train.erase_fill=noise', '--config.mixup.cutmix_alpha=1.0')


@pytest.mark.slow
def test_resume_is_bit_exact(tmp_path):
  config = config_lib.load(runs.write_config(tmp_path), EVERYTHING)
  whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
  result = train(config, str(whole))
  shutil.copytree(whole, resumed)
  shutil.rmtree(resumed / 'checkpoints' / '10')
  assert train(config, str(resumed)) == result
  assert runs.losses(whole) == runs.losses(resumed)
  for a, b in zip(*(jax.tree.leaves(jax.device_get(TrainedRun(str(run)).params))
                    for run in (whole, resumed)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_batch_on_one_device_equals_that_on_eight(tmp_path):
  config = config_lib.load(runs.write_config(tmp_path), EVERYTHING)
  data_input = open_input(config.data, 'train', train=True)
  batch = next(data_input.start().train_batches(config.seed, 16, np.arange(16)))
  prepare = jax.jit(Classification(config, None, 10, data_input.remaining).prepare)
  sharding = mesh_lib.over_batch(mesh_lib.create(MeshSection(data=4, fsdp=2)))
  for step in range(3):
    key = jax.random.key(step)
    one, eight = prepare(batch, key), prepare(jax.device_put(batch, sharding), key)
    assert len(eight['image'].sharding.device_set) == 8
    np.testing.assert_array_equal(one['target'], eight['target'])
    np.testing.assert_allclose(one['image'], eight['image'], atol=1e-5)
