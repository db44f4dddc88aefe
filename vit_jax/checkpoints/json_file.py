"""JSON beside weights: an object of a sane size, or a clear error."""

import json
from typing import Any

from etils import epath

from vit_jax.checkpoints import regular_file
from vit_jax.runtime.errors import UserError

# Names of 21,843 classes with their descriptions take about 2 MiB.
_MOST_BYTES = 64 << 20


def read(path: epath.Path) -> dict[str, Any]:
  """The object in a file; {} if there is no such file.

  Raises:
    UserError: for anything that is no JSON object.
  """
  if not regular_file.is_file(path):
    return {}
  try:
    size = path.stat().length
    if size > _MOST_BYTES:
      raise UserError(
          f'{path} has {size:,} bytes; expected a JSON object of at most '
          f'{_MOST_BYTES:,}. Mend or remove it.')
    values = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as e:
    raise UserError(f'Cannot read {path}: {e}. Mend or remove it.') from e
  if not isinstance(values, dict):
    raise UserError(f'{path} holds no JSON object. Mend or remove it.')
  return values
