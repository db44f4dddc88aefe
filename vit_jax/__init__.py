"""Vision Transformers in JAX/Flax, from a laptop CPU to a multi-slice TPU pod.

The public names; each is imported when it is first used, so that importing the
package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vit_jax.checkpoints.load import load
  from vit_jax.models.variants import create
  from vit_jax.runtime.errors import UserError
  from vit_jax.training.loop import train

__version__ = '0.2.0'

# Public name -> the module that defines it.
_PUBLIC = {
    'UserError': 'vit_jax.runtime.errors',
    'create': 'vit_jax.models.variants',
    'load': 'vit_jax.checkpoints.load',
    'train': 'vit_jax.training.loop',
}

__all__ = ['UserError', 'create', 'load', 'train']


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(_PUBLIC[name]), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return __all__
