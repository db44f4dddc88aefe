"""Reading small files of JSON that may be damaged, or somebody else's.

All readers of this package's own small files go through here, so that whatever a disk,
a kill or an editor has made of one ends in a `UserError` that names it.
"""

import json
from typing import Any

from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.storage.urls import PathLike

# No file of settings comes near: 21,000 class names take less than one MiB.
LARGEST = 64 << 20
# Levels of a configuration are fewer than ten; whoever walks it recursively needs them
# to be few.
DEEPEST = 64


def decode(data: bytes) -> Any:
  """The value of a JSON text.

  Raises:
    ValueError: if it is none in UTF-8, or nested too deeply.
  """
  try:
    value = json.loads(data.decode('utf-8'))
  except RecursionError:
    raise ValueError('it is nested too deeply') from None
  except ValueError as e:
    raise ValueError(f'it holds no JSON ({e})') from e
  if _too_deep(value):
    raise ValueError(f'it is nested more than {DEEPEST} levels deep')
  return value


def read_object(path: PathLike, advice: str, limit: int = LARGEST
                ) -> dict[str, Any]:
  """The object in a file.

  Args:
    path: of the file, or its URL.
    advice: what to do about a damaged one.
    limit: bytes that it may have.

  Raises:
    FileNotFoundError: if it is absent.
    UserError: if it cannot be read, or holds no JSON object.
  """
  try:
    if storage.is_url(path):
      data = storage.read_bytes(path, limit)
    else:
      with open(path, 'rb') as file:
        data = file.read(limit + 1)
    if len(data) > limit:
      raise ValueError(f'it has more than {limit} bytes')
    value = decode(data)
  except FileNotFoundError:
    raise
  except (OSError, ValueError) as e:
    reason = getattr(e, 'strerror', None) or str(e)
    raise UserError(f'Cannot read {path}: {reason}. {advice}') from e
  if not isinstance(value, dict):
    raise UserError(f'Cannot read {path}: it holds a {type(value).__name__} where an '
                    f'object was expected. {advice}')
  return value


def _too_deep(value: Any) -> bool:
  level = [value]
  for _ in range(DEEPEST):
    level = [inner for outer in level if isinstance(outer, dict | list)
             for inner in (outer.values() if isinstance(outer, dict) else outer)]
    if not level:
      return False
  return True
