"""Mesh shapes, divisibility, and the rows that a process reads."""

import jax
import numpy as np
import pytest

from vit_jax.config.sections import MeshSection
from vit_jax.parallel import batches
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError


@pytest.mark.parametrize('data, fsdp, expected', [
    (-1, 1, (8, 1)), (-1, 4, (2, 4)), (1, -1, (1, 8)), (4, 2, (4, 2)),
    (-1, 0, (8, 1)), (2, 0, (2, 4))])
def test_shape(data, fsdp, expected):
  assert mesh_lib.shape(MeshSection(data, fsdp), 8) == expected


@pytest.mark.parametrize('data, fsdp', [
    (3, 1), (-1, 3), (-1, -1), (0, 8), (2, 2), (16, -1)])
def test_shape_that_does_not_fit_is_refused(data, fsdp):
  with pytest.raises(UserError, match=f'mesh.data={data}.*8 devices'):
    mesh_lib.shape(MeshSection(data, fsdp), 8)


def test_batch_must_divide_over_devices_and_accumulation():
  mesh = mesh_lib.create(MeshSection(fsdp=2))
  mesh_lib.check_batch(mesh, 32, accum_steps=4)
  with pytest.raises(UserError, match='batch_size 40 .* 32 or 64'):
    mesh_lib.check_batch(mesh, 40, accum_steps=4)
  with pytest.raises(UserError, match='nearest that does is 8'):
    mesh_lib.check_batch(mesh, 4)


@pytest.mark.parametrize('section', [
    MeshSection(), MeshSection(fsdp=4), MeshSection(1, 8)])
def test_global_batch_keeps_row_order(section):
  mesh = mesh_lib.create(section)
  sharding = mesh_lib.over_batch(mesh)
  rows = batches.rows_of_process(sharding, 16)
  np.testing.assert_array_equal(rows, np.arange(16))
  local = {'x': np.arange(32).reshape(16, 2)}
  array = batches.to_global(local, rows, sharding, 16)['x']
  np.testing.assert_array_equal(array, local['x'])
  assert len({shard.device for shard in array.addressable_shards}) == 8
  assert array.addressable_shards[0].data.shape == (2, 2)


def test_rows_of_process_follow_its_devices():
  # As if this process had only devices 2, 3 and 6 of the eight.
  class Partial:
    def addressable_devices_indices_map(self, shape):
      sharding = mesh_lib.over_batch(mesh_lib.create(MeshSection()))
      index_map = sharding.devices_indices_map(shape)
      return {d: i for d, i in index_map.items() if d.id in (2, 3, 6)}
  np.testing.assert_array_equal(
      batches.rows_of_process(Partial(), 16), [4, 5, 6, 7, 12, 13])
  assert jax.device_count() == 8
