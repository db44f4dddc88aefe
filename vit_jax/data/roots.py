"""Where prepared data sets lie on this machine."""

import os

import tensorflow_datasets as tfds


def data_root(directory: str) -> str:
  """A setting, else TFDS_DATA_DIR, else what TFDS takes by itself."""
  # TFDS reads the variable once, on import; here it counts when it is used.
  named = directory or os.environ.get('TFDS_DATA_DIR', '')
  return os.path.expanduser(named or tfds.core.constants.DATA_DIR)
