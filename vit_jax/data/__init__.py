"""Examples, from record files to batches of uint8 images in host memory.

`open_input` is what training and evaluation use, `ImageReader` what prediction
uses. TensorFlow is imported inside this package alone, and only where needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vit_jax.data.image_files import ImageReader, find_images
  from vit_jax.data.pipeline import Input, open_input
  from vit_jax.data.sources import open_source

__all__ = ['ImageReader', 'Input', 'find_images', 'open_input', 'open_source']

_HOME = {
    'ImageReader': 'vit_jax.data.image_files',
    'Input': 'vit_jax.data.pipeline',
    'find_images': 'vit_jax.data.image_files',
    'open_input': 'vit_jax.data.pipeline',
    'open_source': 'vit_jax.data.sources',
}


def __getattr__(name: str) -> Any:
  # Late, so that commands that read no data do not pay for importing TFDS.
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  import importlib
  return getattr(importlib.import_module(_HOME[name]), name)
