"""Which mesh `config.mesh.fsdp = 0` means for a model and a slice."""

import os

import jax
import jax.numpy as jnp
import optax
import pytest

from vit_jax.config.sections import MeshSection
from vit_jax.models import layout, variants
from vit_jax.parallel import auto_mesh, rules
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError
from vit_jax.training import state as state_lib


class Chip:
  """A device of a slice of which only the size matters."""
  platform = 'tpu'

  def __init__(self, kind, slice_index=0):
    self.device_kind, self.slice_index = kind, slice_index

  def memory_stats(self):
    return None


def _state(variant):
  # With scanned blocks, which have the same sizes and trace in no time.
  options = {} if variant.startswith(('Mixer', 'R')) else {'scan': True}
  model = variants.create(variant, 1000, **options)
  adam = optax.adamw(1e-3, mu_dtype=jnp.bfloat16)
  return jax.eval_shape(
      lambda key: state_lib.create(
          layout.init(model, key, (224, 224)), adam, ema=False), jax.random.key(0))


@pytest.fixture(scope='module')
def states():
  return {v: _state(v) for v in ('B/16', 'L/16', 'H/14', 'Mixer-B/16')}


# HBM and parameters: H/14 has 632 million, so 14 bytes each (float32 weights,
# gradients and second moments, bfloat16 first moments) are 8.2 GiB.
@pytest.mark.parametrize('variant, kind, chips, slices, expected', [
    ('B/16', 'TPU v5 lite', 16, 1, 1),      # 1.1 of 16 GiB
    ('Mixer-B/16', 'TPU v5 lite', 16, 1, 1),
    ('L/16', 'TPU v5 lite', 256, 1, 16),    # 4.0 of 16 GiB
    ('H/14', 'TPU v5 lite', 256, 1, 16),
    ('H/14', 'TPU v5 lite', 4, 1, 4),
    ('H/14', 'TPU v5', 64, 1, 1),           # of 95 GiB
    ('L/16', 'TPU v4', 64, 1, 1),           # 4.0 of 32 GiB
    ('H/14', 'TPU v4', 64, 1, 16),
    ('H/14', 'TPU v5 lite', 512, 2, 16),
    ('H/14', 'TPU v5 lite', 8, 2, 4),       # never across slices
    ('H/14', 'TPU v5 lite', 12, 1, 4),      # 1280 / 12 is no number
    ('H/14', 'cpu', 8, 1, 1),
    ('H/14', 'a chip of tomorrow', 8, 1, 1),
])
def test_choice(states, variant, kind, chips, slices, expected):
  devices = [Chip(kind, i * slices // chips) for i in range(chips)]
  chosen = auto_mesh.choose(MeshSection(), devices, states[variant])
  assert chosen == MeshSection(-1, expected)


def test_divided_further_only_if_it_does_not_fit(states):
  # Of the 8 GiB of a v2 core, half. H/14 over 16: 0.5 GiB.
  devices = [Chip('TPU v2')] * 256
  chosen = auto_mesh.choose(MeshSection(), devices, states['H/14'])
  assert chosen.fsdp == 16
  # 632 million times 30 x 6 bytes of moments and 8 of weights and gradients are 111
  # GiB: 6.9 over 16 devices, 3.5 over 32.
  huge = states['H/14'].replace(opt_state=[states['H/14'].opt_state] * 30)
  chosen = auto_mesh.choose(MeshSection(), devices, huge)
  assert chosen.fsdp == 32


def test_what_the_user_says_is_kept(states):
  devices = [Chip('TPU v5 lite')] * 16
  for section in (MeshSection(-1, 2), MeshSection(1, -1), MeshSection(4, 4)):
    assert auto_mesh.choose(section, devices, states['H/14']) == section
  assert auto_mesh.choose(MeshSection(data=4), devices, states['B/16']) == MeshSection(
      4, -1)


def test_divisors_divide_every_dim_that_is_divided(states):
  for state in states.values():
    numbers = auto_mesh.divisors(256, state.params)
    assert 1 in numbers and 16 in numbers
    for number in numbers:
      mesh = jax.sharding.AbstractMesh((1, number), mesh_lib.AXES)
      for path, x in jax.tree_util.tree_leaves_with_path(state.params):
        rules.partition_spec(rules.path_name(path), x.shape, mesh)


def test_fit_keeps_a_mesh_that_suits(states):
  mesh = mesh_lib.create(MeshSection())
  assert auto_mesh.fit(MeshSection(), mesh, states['H/14']) is mesh
  assert auto_mesh.fit(MeshSection(fsdp=1), mesh, states['H/14']) is mesh


def test_fit_divides_what_does_not_fit(states, monkeypatch):
  monkeypatch.setattr(auto_mesh, 'memory_bytes', lambda device: 16 * 2**30)
  mesh = auto_mesh.fit(MeshSection(), mesh_lib.create(MeshSection()), states['H/14'])
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 8}
  assert mesh.devices.flatten().tolist() == jax.devices()


@pytest.fixture(scope='module')
def topology():
  pytest.importorskip('libtpu', reason='the TPU compiler is not installed')
  os.environ.update({
      'TPU_SKIP_MDS_QUERY': '1', 'TPU_WORKER_HOSTNAMES': 'localhost',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-16', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'})
  from jax.experimental import topologies
  return lambda name, **options: topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options).devices


def _coords(devices):
  return {tuple(d.coords) for d in devices.flat}


def test_fsdp_is_one_axis_of_a_real_torus(topology):
  mesh = mesh_lib.create(MeshSection(fsdp=16), topology('v5e:16x16'))
  for row in mesh.devices:
    xs, ys = {d.coords[0] for d in row}, {d.coords[1] for d in row}
    assert sorted((len(xs), len(ys))) == [1, 16]


def test_fsdp_larger_than_an_axis_takes_a_part_of_the_next(topology):
  mesh = mesh_lib.create(MeshSection(fsdp=16), topology('v5e:4x8'))
  assert mesh.devices.shape == (2, 16)
  for row in mesh.devices:
    xs, ys = {d.coords[0] for d in row}, {d.coords[1] for d in row}
    assert len(xs) * len(ys) == 16


def test_slices_are_replicas(topology):
  devices = topology('v5e:4x4', num_slices=2)
  mesh = mesh_lib.create(MeshSection(fsdp=4), devices)
  assert mesh.devices.shape == (8, 4) and len(set(mesh.devices.flat)) == 32
  for row in mesh.devices:
    assert len({d.slice_index for d in row}) == 1
  # Neighbours along `data` change the slice once, so that sums go over the slow
  # network once.
  column = [row[0].slice_index for row in mesh.devices]
  assert column == sorted(column)


def test_parameters_are_not_divided_between_slices(topology):
  with pytest.raises(UserError, match='do not divide over 2 slices.*divisors of 16'):
    mesh_lib.create(MeshSection(data=1, fsdp=-1), topology('v5e:4x4', num_slices=2))


def test_memory_of_topology_devices(topology):
  assert auto_mesh.memory_bytes(topology('v5e:2x2')[0]) == 16 * 2**30
  assert auto_mesh.memory_bytes(topology('v5p:2x2x1')[0]) == 95 * 2**30
  assert auto_mesh.memory_bytes(topology('v6e:2x2')[0]) == 32 * 2**30
