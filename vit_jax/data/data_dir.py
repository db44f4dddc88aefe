"""The TFDS data directory: where prepared data sets lie."""

import os

from tensorflow_datasets.core import constants

from vit_jax.data import store_metadata
from vit_jax.runtime import storage


def tfds_data_dir(setting: str) -> str:
  """`config.data.dir`, else TFDS_DATA_DIR, else what TFDS takes by itself."""
  # TFDS reads the variable once, on import; here it counts when it is used.
  named = setting or os.environ.get('TFDS_DATA_DIR', '')
  return os.path.expanduser(named or constants.DATA_DIR)


def metadata_dir(data_dir: str, name: str) -> str:
  """A directory on a disk with the metadata that are in a data directory.

  Args:
    data_dir: see `tfds_data_dir`.
    name: `config.data.name`.
  """
  if not storage.is_url(data_dir):
    return data_dir
  return store_metadata.local_copy(data_dir, base_name(name))


def base_name(name: str) -> str:
  """A data set's name without its configuration and version."""
  return name.split('/')[0].split(':')[0]
