"""What goes wrong with files and stores, told so that a user can mend it."""

import errno
import re

from vit_jax.runtime.errors import UserError, first_line
from vit_jax.runtime.storage.urls import Url

_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
_ROOM = (errno.ENOSPC, errno.EDQUOT)

# What to set up for each kind of store.
_CREDENTIALS = {
    'gs': 'run `gcloud auth application-default login`, or let '
          'GOOGLE_APPLICATION_CREDENTIALS name a key file',
    's3': 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
}
_ROLE = {
    'gs': 'the role roles/storage.objectAdmin on the bucket',
    's3': 's3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket',
}


class StorageError(UserError):
  """A file or an object that cannot be read, written or listed.

  Attributes:
    reason: the cause alone, for those who tell it in their own words.
  """

  def __init__(self, verb: str, path: object, reason: str, advice: str) -> None:
    super().__init__(f'Cannot {verb} {path}: {reason}. {advice}')
    self.reason = reason


def of_disk(verb: str, path: object, error: OSError) -> StorageError:
  """The error for what the operating system has said."""
  reason = error.strerror or first_line(error)
  if error.errno in _ACCESS:
    advice = f'Give a path that you may {verb}.'
  elif error.errno in _ROOM:
    advice = 'Make room, or give a path on another disk.'
  elif error.errno == errno.ENAMETOOLONG:
    advice = 'Give a shorter path.'
  else:
    advice = 'Check the path.'
  return StorageError(verb, path, reason, advice)


class NoBucket(StorageError):
  """The bucket of a URL does not exist."""


def no_bucket(verb: str, url: Url) -> NoBucket:
  return NoBucket(verb, url, f'there is no bucket {url.bucket}',
                  'Create it, or correct the name.')


def no_answer(verb: str, url: Url, seconds: float) -> StorageError:
  return StorageError(
      verb, url, f'no answer within {seconds:g} s',
      'Check the connection of this machine, and whether the store has trouble.')


def of_store(verb: str, url: Url, error: BaseException) -> StorageError:
  """The error for what TensorStore, gcsfs or s3fs have raised."""
  text = first_line(error)
  status = _status(error, text)
  if status == 401 or _lacks_credentials(error):
    return StorageError(
        verb, url, 'the store wants credentials, and there are no valid ones',
        f'To have some, {_CREDENTIALS.get(url.scheme, "log in")}.')
  if status == 403:
    return StorageError(
        verb, url, 'access denied (403)',
        f'Give the account {_ROLE.get(url.scheme, "access")}; to have other '
        f'credentials, {_CREDENTIALS.get(url.scheme, "log in")}.')
  if status == 404:
    return no_bucket(verb, url)
  if status == 429 or status >= 500:
    return StorageError(verb, url, f'the store still answers {status} after retries',
                        'Try again later.')
  if status == 400 or 'Invalid' in text:
    return StorageError(verb, url, f'the store refuses it: {_shorten(text)}',
                        'Check the name.')
  return StorageError(
      verb, url, f'the store cannot be reached: {_shorten(text)}',
      'Check the connection of this machine, and its proxy and DNS settings.')


def _status(error: BaseException, text: str) -> int:
  """The HTTP status behind an error, 0 where there was none."""
  if found := re.search(r"http_response_code='(\d+)'", text):
    return int(found[1])
  code = getattr(error, 'code', None)
  if str(code).isdecimal():
    return int(str(code))
  response = getattr(error.__cause__ or error, 'response', None)
  if isinstance(response, dict):
    return int(response.get('ResponseMetadata', {}).get('HTTPStatusCode', 0))
  # gcsfs has no class of its own for these.
  if isinstance(error, PermissionError) or text.startswith('Forbidden'):
    return 403
  return 404 if isinstance(error, FileNotFoundError) else 0


def _lacks_credentials(error: BaseException) -> bool:
  # By name, for these classes are of packages that may not be there.
  return type(error).__name__ in (
      'DefaultCredentialsError', 'RefreshError', 'NoCredentialsError',
      'PartialCredentialsError')


def _shorten(text: str) -> str:
  # TensorStore's messages have what was done in front and the cause behind it.
  text = text.removeprefix('ABORTED: ')
  return text if len(text) < 250 else f'{text[:120]} ... {text[-120:]}'
