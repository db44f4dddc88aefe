"""What FSDP sends: weights in the compute dtype, read from the partitioned program."""

import math
import pathlib
import re

import jax
import pytest
import runs

from vit_jax import config as config_lib
from vit_jax.data import open_input
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.training import job as job_lib
from vit_jax.training.programs import TrainStep


@pytest.fixture(autouse=True)
def never_cached():
  """A program from the compilation cache would leave no dump."""
  name = 'jax_persistent_cache_min_compile_time_secs'
  before = getattr(jax.config, name)
  jax.config.update(name, 1e9)
  yield
  jax.config.update(name, before)


pytestmark = pytest.mark.slow

_GATHER = re.compile(r'= (\w+)\[([\d,]*)\]\S* all-gather\(')


def _gathered(tmp_path, *overrides):
  """(dtype, shape) of every all-gather once XLA has divided the train step."""
  config = config_lib.load(runs.write_config(tmp_path), [
      '--config.mesh.fsdp=4', '--config.model.width=32', '--config.model.mlp_dim=128',
      '--config.data.test_split=', *overrides])
  data = open_input(config.data, config.data.train_split, train=True)
  job = job_lib.build(config, mesh_lib.create(config.mesh), data.num_classes, 10)
  # Before the CPU's own passes, which turn bfloat16 into float32.
  dump = tmp_path / 'dump'
  TrainStep(job.setup, data.remaining, data.stored_shape).lower().compile({
      'xla_dump_to': str(dump), 'xla_dump_hlo_pass_re': 'spmd-partitioning|spmd.*'})
  [text] = [path.read_text() for path in pathlib.Path(dump).iterdir()
            if 'after_spmd-partitioning' in path.name]
  return [(dtype, tuple(map(int, shape.split(','))))
          for dtype, shape in _GATHER.findall(text)]


@pytest.mark.parametrize('scan', ['false', 'true'])
def test_weights_are_cast_before_they_are_gathered(tmp_path, scan):
  gathered = _gathered(
      tmp_path, '--config.model.dtype=bfloat16', f'--config.model.scan={scan}')
  in_float32 = [shape for dtype, shape in gathered if dtype == 'f32']
  # The logits are float32, and so is the head's product: (width, classes), or the
  # logits themselves, (batch, classes). The rest may be vectors, but no weights: the
  # smallest are 32 x 32.
  assert all(shape[-1] == 10 or math.prod(shape) < 32 * 32 for shape in in_float32)
  in_bfloat16 = [math.prod(shape) for dtype, shape in gathered if dtype == 'bf16']
  # Queries, keys, values, output; both layers of the MLP.
  assert in_bfloat16.count(32 * 32) >= 4, gathered
  assert in_bfloat16.count(32 * 128) >= 2, gathered


def test_float32_stays_float32(tmp_path):
  assert {dtype for dtype, _ in _gathered(tmp_path)} == {'f32'}
