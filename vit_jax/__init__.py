"""Vision Transformers in JAX/Flax, from a laptop CPU to a multi-slice TPU pod.

The public names; each is imported when it is first used, so that importing the
package costs nothing.
"""

import importlib

# Public name -> the module that defines it.
_PUBLIC = {
    'create': 'vit_jax.models.variants',
    'load': 'vit_jax.checkpoints.load',
    'train': 'vit_jax.training.loop',
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(_PUBLIC[name]), name)
  globals()[name] = value
  return value


def __dir__():
  return __all__
