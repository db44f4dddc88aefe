"""Where the one constraint on activations applies, and where it must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.config.sections import MeshSection
from vit_jax.parallel import activations
from vit_jax.parallel import mesh as mesh_lib


def _constraints(x):
  """How often the traced function constrains a sharding."""
  return str(jax.make_jaxpr(activations.by_example)(x)).count('sharding_constraint')


def _struct(shape, mesh, *spec):
  return jax.ShapeDtypeStruct(
      shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))


def test_examples_are_divided_over_all_devices():
  mesh = mesh_lib.create(MeshSection(fsdp=4))
  # What comes in is divided the wrong way.
  x = jax.device_put(
      np.arange(16. * 8).reshape(16, 8), NamedSharding(mesh, P(None, 'fsdp')))
  y = jax.jit(lambda x: activations.by_example(x) * 2)(x)
  assert y.sharding.is_equivalent_to(NamedSharding(mesh, P(('data', 'fsdp'))), 2)
  np.testing.assert_array_equal(y, 2 * np.asarray(x))


def test_the_gradient_is_divided_alike():
  mesh = mesh_lib.create(MeshSection(fsdp=4))
  jaxpr = jax.make_jaxpr(jax.grad(
      lambda x: (activations.by_example(x)**2).sum()))(_struct((16, 8), mesh))
  assert str(jaxpr).count('sharding_constraint') == 2


def test_no_mesh():
  x = np.ones((8, 2), np.float32)
  np.testing.assert_array_equal(activations.by_example(jnp.asarray(x)), x)
  assert _constraints(x) == 0


@pytest.mark.parametrize('shape', [(12, 2), (1, 2)])
def test_batches_that_do_not_divide(shape):
  assert _constraints(_struct(shape, mesh_lib.create(MeshSection()))) == 0
  assert _constraints(_struct((16, 2), mesh_lib.create(MeshSection()))) == 1


def test_meshes_of_others():
  mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ('replica', 'model'))
  assert _constraints(_struct((16, 2), mesh)) == 0
