"""The one door to TensorFlow, which serves here as a decoder on the CPU."""

import os
import threading
from types import ModuleType

from vit_jax.runtime import host_memory

_lock = threading.Lock()


def load() -> ModuleType:
  """The `tensorflow` module, quiet and without GPUs; imported on the first call.

  The import takes seconds of CPU time, so nothing calls this before it must.
  """
  host_memory.keep_buffers()
  with _lock:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    import tensorflow as tf
    try:
      # Otherwise TensorFlow reserves the memory that JAX needs.
      tf.config.set_visible_devices([], 'GPU')
    except RuntimeError:
      pass  # The caller has already started TensorFlow with devices of their choice.
    return tf
