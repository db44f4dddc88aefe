"""JSON beside weights: an object of a sane size, or a clear error."""

from typing import Any

from etils import epath

from vit_jax.checkpoints import regular_file
from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError


def read(path: epath.Path) -> dict[str, Any]:
  """The object in a file; {} if there is no such file.

  Raises:
    UserError: for anything that is no JSON object.
  """
  if not regular_file.is_file(path):
    return {}
  try:
    size = path.stat().length
    if size > json_files.LARGEST:
      raise UserError(
          f'{path} has {size:,} bytes; expected a JSON object of at most '
          f'{json_files.LARGEST:,}. Mend or remove it.')
    values = json_files.decode(path.read_bytes())
  except (OSError, ValueError) as e:
    raise UserError(f'Cannot read {path}: {e}. Mend or remove it.') from e
  if not isinstance(values, dict):
    raise UserError(f'{path} holds no JSON object. Mend or remove it.')
  return values
