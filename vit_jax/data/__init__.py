"""Examples, from record files to batches of uint8 images in host memory.

`open_input` is what training and evaluation use, `predict_images` what prediction
uses. TensorFlow is imported inside this package alone, and only where needed.
"""

_HOME = {
    'open_input': 'vit_jax.data.pipeline',
    'Input': 'vit_jax.data.pipeline',
    'open_source': 'vit_jax.data.sources',
    'predict_images': 'vit_jax.data.prediction',
}
__all__ = sorted(_HOME)


def __getattr__(name):
  # Late, so that commands that read no data do not pay for importing TFDS.
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  import importlib
  return getattr(importlib.import_module(_HOME[name]), name)
