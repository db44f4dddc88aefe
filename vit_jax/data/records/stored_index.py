"""Indexes of records that are kept between processes, in the user's cache folder.

One file for the shards of a split, INDEX/HASH.npz with HASH of the shards' paths. What
it says of a shard counts only while the shard has the size and the time of its last
change that it had; so the file can be deleted, copied or be out of date at any time.
"""

import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from vit_jax.data.records.index import RecordIndex, Shard, joined
from vit_jax.runtime import files
from vit_jax.runtime.cache_dir import cache_dir
from vit_jax.runtime.errors import warn

# Walking through fewer records takes less than a second.
STORED_FROM = 50_000


def load_or_walk(shards: Sequence[Shard],
                 walk_all: Callable[[Sequence[Shard]], list[np.ndarray]]
                 ) -> RecordIndex:
  """The index of some shards.

  Args:
    shards: in the order of the index.
    walk_all: the offsets of each of the shards given to it.

  Raises:
    DataError: for damaged shards.
  """
  path = index_path(shards)
  known = _load(path)
  changed = [shard for shard in shards if _key(shard) not in known]
  if changed:
    worth_it = sum(shard.num_records for shard in shards) >= STORED_FROM
    if worth_it:
      logging.info('Looking for the records of %d files of %s; to be kept in %s.',
                   len(changed), pathlib.Path(shards[0].path).parent, path)
    for shard, offsets in zip(changed, walk_all(changed), strict=True):
      known[_key(shard)] = offsets
    if worth_it:
      _store(path, shards, known)
  return joined([known[_key(shard)] for shard in shards])


def index_path(shards: Sequence[Shard]) -> pathlib.Path:
  """Where the index of these shards is kept."""
  names = '\n'.join(shard.path for shard in shards)
  data = names.encode('utf-8', 'surrogateescape')
  name = hashlib.blake2b(data, digest_size=16).hexdigest()
  return cache_dir() / 'index' / f'{name}.npz'


def _key(shard: Shard) -> str:
  return json.dumps([shard.path, shard.num_records, shard.size, shard.version])


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  """{key of a shard: its offsets}; empty where there is no readable file."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      keys, offsets = arrays['shards'].tolist(), arrays['offsets']
      ends = np.cumsum(arrays['lengths'])
  except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
    return {}
  return dict(zip(keys, np.split(offsets, ends[:-1]), strict=True))


def _store(path: pathlib.Path, shards: Sequence[Shard], known: dict[str, np.ndarray]
           ) -> None:
  parts = [known[_key(shard)] for shard in shards]
  data = io.BytesIO()
  np.savez(data, shards=np.array([_key(shard) for shard in shards]),
           lengths=np.array([len(part) for part in parts], np.int64),
           offsets=np.concatenate(parts))
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, data.getvalue())
  except OSError as e:
    warn(f'the index of {pathlib.Path(shards[0].path).parent} cannot be kept in {path} '
         f'({e.strerror}), so the next start looks for its records again. Name a '
         'folder that can be written with VIT_JAX_CACHE.')
