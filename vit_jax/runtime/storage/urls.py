"""Which paths are URLs, and what they name."""

import dataclasses
import os
import pathlib
import re
import urllib.parse

from vit_jax.runtime.errors import UserError

# Schemes of object stores.
STORES = ('gs', 's3', 'memory')
_URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://(.*)', re.DOTALL)
# What becomes of a URL in pathlib's hands.
_CRIPPLED = re.compile(rf'({"|".join((*STORES, "file"))}):/(?!/)')

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Url:
  """An object, or all that have `key` and a slash in front of their names."""
  scheme: str
  bucket: str
  key: str

  def __str__(self) -> str:
    return f'{self.scheme}://{self.bucket}/{self.key}'.rstrip('/')


def is_url(path: PathLike) -> bool:
  """Whether a path names something in an object store."""
  return isinstance(parse(path), Url)


def local_path(path: PathLike) -> pathlib.Path:
  """The path on a disk; raises UserError for an object store's URL."""
  place = parse(path)
  if isinstance(place, Url):
    raise UserError(f'{place} is a URL; expected a path on a disk of this machine.')
  return place


def parse(path: PathLike) -> pathlib.Path | Url:
  """What a path names.

  As etils.epath does, doubled slashes and those at the end of a URL are dropped.

  Raises:
    UserError: for a scheme that is not known here, or no name of a bucket.
  """
  text = os.fspath(path)
  if crippled := _CRIPPLED.match(text):
    raise UserError(f'{text} has one slash after {crippled[1]}:; expected two, as in '
                    f'{crippled[1]}://bucket/folder.')
  match = _URL.fullmatch(text)
  if match is None:
    return pathlib.Path(text)
  scheme, rest = match[1], match[2]
  if scheme == 'file':
    return _of_file_url(text, rest)
  if scheme not in STORES:
    hint = ' Did you mean gs://?' if scheme in ('gcs', 'gfs', 'google') else ''
    raise UserError(
        f'{text} is a URL of the unknown kind {scheme}://; expected a local path, or a '
        f'URL of gs://, s3:// or file://.{hint}')
  parts = [part for part in rest.split('/') if part]
  if not parts or rest.startswith('/'):
    raise UserError(f'{text} names no bucket; expected {scheme}://bucket/folder.')
  if '.' in parts or '..' in parts:
    raise UserError(f'{text} has a part {"." if "." in parts else ".."}, which object '
                    'stores do not know; give the whole path.')
  return Url(scheme, parts[0], '/'.join(parts[1:]))


def join(path: PathLike, *parts: str) -> str:
  """`path` with further parts, which are no absolute paths."""
  if isinstance(parse(path), Url):
    return '/'.join([os.fspath(path).rstrip('/'), *(p.strip('/') for p in parts)])
  return os.path.join(os.fspath(path), *parts)


def _of_file_url(text: str, rest: str) -> pathlib.Path:
  if not rest.startswith('/'):
    raise UserError(f'{text} names another machine; expected file:///folder/file.')
  return pathlib.Path(urllib.parse.unquote(rest))
