"""What a training minimises, and how it is measured.

`config.objective` names one: a row of the table below, or 'package.module:name' of the
user's own, a class as `objective.Objective` describes it.
"""

from typing import TYPE_CHECKING

from vit_jax.runtime import named_objects

if TYPE_CHECKING:
  from vit_jax.objectives.objective import Objective

OBJECTIVES = {
    'classification': 'vit_jax.objectives.classification:Classification',
    'masked_patches': 'vit_jax.objectives.masked_patches:MaskedPatches',
}


def find(name: str) -> 'type[Objective]':
  """The class that `config.objective` names.

  Raises:
    UserError: if there is none, or it is no objective.
  """
  # Here because it imports JAX, and the table alone should not.
  from vit_jax.objectives.objective import Objective
  found = named_objects.find('objective', name, OBJECTIVES)
  named_objects.check_members('objective', name, found, Objective)
  return found
