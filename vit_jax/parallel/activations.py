"""The one constraint on activations: a block works on its own examples.

Left to itself, the compiler may divide the activations of scanned blocks by their width
instead, as the parameters are, and then every device does the attention of all.
"""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vit_jax.parallel.mesh import AXES


def by_example(x: jax.Array) -> jax.Array:
  """`x`, (B, ...), with B divided over all devices of the mesh that it lives on.

  Does nothing outside of a compiled function, without a mesh of this project's axes,
  and for batches that don't divide.
  """
  mesh = getattr(getattr(jax.typeof(x), 'sharding', None), 'mesh', None)
  if mesh is None or mesh.size <= 1 or mesh.axis_names != AXES:
    return x
  if x.shape[0] % mesh.size or any(t != AxisType.Auto for t in mesh.axis_types):
    return x
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(AXES)))
