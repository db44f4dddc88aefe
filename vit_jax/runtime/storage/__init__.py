"""Files on disks and in object stores: what user paths are read and written with.

A path is a local one or a URL of gs://, s3://, file:// or memory:// (this process
alone, for tests). The functions here hide what only one of the two has: a disk has
folders, renaming, appending and locks; a store has none of them, and replaces an object
whole and at once, on a condition if asked.

Objects are read and written by TensorStore's key-value stores, which come with Orbax:
ranges of bytes are fetched in C++ without the interpreter's lock (200 of 107 kB from a
server on loopback: 0.04 s and 0.1 ms of CPU each, with gcsfs 0.45 s and 1.3 ms), both
services' conditional writes are there (`ifGenerationMatch`, `If-None-Match`), and
failed requests are repeated. Names and sizes come from fsspec (gcsfs, s3fs), because
TensorStore 0.1.86 cannot tell sizes, lists whole trees only, and takes the error 403 or
404 of a listing for an empty one. etils.epath stands aside: with gcsfs it caches
listings, so that it never sees what another process has written since, and with
TensorFlow's file system it has no s3:// and no conditional writes.
"""

from vit_jax.runtime.storage.access import (
  below,
  children,
  create,
  delete,
  delete_tree,
  exists,
  is_folder,
  make_folder,
  read_bytes,
  read_json,
  read_text,
  stat,
  touch,
  update,
  write_bytes,
  write_json,
  write_text,
)
from vit_jax.runtime.storage.clients import configure
from vit_jax.runtime.storage.failures import StorageError
from vit_jax.runtime.storage.log import Log
from vit_jax.runtime.storage.places import Stat
from vit_jax.runtime.storage.ranges import Range, read_ranges
from vit_jax.runtime.storage.urls import is_url, join, local_path

__all__ = [
  'Log', 'Range', 'Stat', 'StorageError', 'below', 'children', 'configure', 'create',
  'delete', 'delete_tree', 'exists', 'is_folder', 'is_url', 'join', 'local_path',
  'make_folder', 'read_bytes', 'read_json', 'read_ranges', 'read_text', 'stat',
  'touch', 'update', 'write_bytes', 'write_json', 'write_text']
