"""The whole suite runs on 8 simulated CPU devices and writes nothing at home."""

import os
import tempfile

# Before anything imports JAX or TFDS, which read these once.
_FOLDER = tempfile.mkdtemp(prefix='vit_jax_tests_')
os.environ['JAX_PLATFORMS'] = 'cpu'
# Without LLVM's optimisations: compiling takes most of the tests' time.
os.environ['XLA_FLAGS'] = (
    '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0')
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', os.path.join(_FOLDER, 'xla'))
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
# TensorFlow's file system cannot be led to the servers of `object_stores`.
os.environ['EPATH_USE_TF'] = '0'
os.environ['TFDS_DATA_DIR'] = os.path.join(_FOLDER, 'tfds')


# Servers of object stores, for tests that ask for `gcs` or `s3`.
pytest_plugins = ('object_stores',)


def pytest_configure(config):
  # As collected, not the files with many tests first: those are the quick ones.
  config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
  """Files with slow tests first, so that no worker waits for such a file at the end."""
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: item.path not in slow)
