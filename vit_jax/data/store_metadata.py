"""The metadata of TFDS data sets in object stores, copied to this machine.

They are small; TFDS then reads them as those of a local data set. Its own way to object
stores depends on which packages are installed, and cannot be tested without Google.
"""

import atexit
import concurrent.futures as futures
import functools
import os
import shutil
import tempfile

from vit_jax.runtime import storage

# Of a data set's files these are no records.
_ENDINGS = ('.json', '.txt')
_REQUESTS = 16


@functools.cache
def local_copy(data_dir: str, name: str) -> str:
  """A data directory on a disk with the metadata of one data set, once per process.

  Args:
    data_dir: a URL.
    name: of the data set, without configuration and version.

  Raises:
    StorageError: where the store cannot be read.
  """
  folder = tempfile.mkdtemp(prefix='vit_jax_metadata_')
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  root = storage.join(data_dir, name)
  found = [file for file in storage.below(root) if file.endswith(_ENDINGS)]
  def copy(file: str) -> None:
    path = os.path.join(folder, name, *file.split('/'))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as target:
      target.write(storage.read_bytes(storage.join(root, file)))
  with futures.ThreadPoolExecutor(_REQUESTS) as pool:
    for _ in pool.map(copy, found):
      pass
  return folder


def in_store(path: str, data_dir: str, name: str) -> str:
  """Where a file of a data set lies, given where it would in the local copy."""
  if os.path.exists(path):
    return path  # Made here, as digits are.
  relative = os.path.relpath(path, local_copy(data_dir, name))
  return storage.join(data_dir, *relative.split(os.sep))
