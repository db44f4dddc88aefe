"""The TFDS data directory: where prepared data sets lie on this machine."""

import os

from tensorflow_datasets.core import constants


def tfds_data_dir(setting: str) -> str:
  """`config.data.dir`, else TFDS_DATA_DIR, else what TFDS takes by itself."""
  # TFDS reads the variable once, on import; here it counts when it is used.
  named = setting or os.environ.get('TFDS_DATA_DIR', '')
  return os.path.expanduser(named or constants.DATA_DIR)
