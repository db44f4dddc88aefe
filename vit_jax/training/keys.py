"""Random keys of a run by what they are for.

Keys that are split or folded from one and the same key can be equal: with JAX's
partitionable threefry `split(key)[i]` is `fold_in(key, i)`. So every purpose has a key
of its own, from which all of its keys come.
"""

from typing import Literal

import jax

Purpose = Literal['parameters', 'steps']

_CONSTANTS: dict[Purpose, int] = {'parameters': 0, 'steps': 1}


def of_purpose(seed: jax.typing.ArrayLike, purpose: Purpose) -> jax.Array:
  """The key of a run's first parameters, or the one that its steps fold into."""
  return jax.random.fold_in(jax.random.key(seed), _CONSTANTS[purpose])
