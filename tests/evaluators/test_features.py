"""Frozen features: what they are, their order, and that padding leaves no trace."""

import io

import numpy as np
import pytest
import tiny_jobs
from PIL import Image

from vit_jax.data import open_input, open_source
from vit_jax.evaluators.features import FrozenFeatures, standardiser
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.program_cache import ProgramCache


@pytest.fixture(scope='module')
def job():
  return tiny_jobs.make()


def _features(job, split, layer='pre_logits', batch_size=0):
  data_input = open_input(job.config.data, split, train=False)
  split = SplitPass(job, data_input, batch_size, 'evaluators[0].batch_size')
  return FrozenFeatures(job, split, layer, ProgramCache(), 'evaluators[0]')


@pytest.mark.parametrize('layer', ['pre_logits', 'block_00', 'patch_embedding'])
def test_are_those_of_the_model_in_file_order(job, layer):
  params = tiny_jobs.parameters(job)
  source = open_source(job.config.data, 'test[:21]')
  images, labels = zip(*(source.read(i) for i in range(21)), strict=True)
  pixels = np.stack([
      np.asarray(Image.open(io.BytesIO(data)).convert('RGB')) for data in images])
  _, found = job.model.apply({'params': params}, pixels / np.float32(127.5) - 1)
  expected = np.asarray(found[layer]).reshape(21, -1, 16).mean(1)
  features = _features(job, 'test[:21]', layer, batch_size=8).of(params)
  np.testing.assert_allclose(features.x, expected, atol=1e-5)
  np.testing.assert_array_equal(features.labels, labels)
  assert features.skipped == 0 and features.x.dtype == np.float32


def test_are_computed_anew_for_new_parameters_and_after_forgetting(job, monkeypatch):
  params, other = tiny_jobs.parameters(job), tiny_jobs.parameters(job)
  frozen = _features(job, 'test[:9]')
  first = frozen.of(params)
  assert frozen.of(params) is first
  assert frozen.of(other) is not first
  again = frozen.of(params)
  frozen.forget()
  assert frozen.of(params) is not again


def test_unknown_layer(job):
  with pytest.raises(UserError, match=r"evaluators\[0\].layer is 'block_7'.*block_00"):
    _features(job, 'test', 'block_7')


def test_batch_that_does_not_divide(job):
  with pytest.raises(UserError, match=r'config.evaluators\[0\].batch_size 12 .*8'):
    _features(job, 'test', batch_size=12)


def test_standardised_features_have_mean_0_and_deviation_1():
  x = np.random.default_rng(0).normal(50, [1, 100, 0], (1000, 3)).astype(np.float32)
  standardised = standardiser(x)(x)
  np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-9)
  # A feature that never changes stays what it is: nothing.
  np.testing.assert_allclose(standardised.std(0), [1, 1, 0], atol=1e-4)
