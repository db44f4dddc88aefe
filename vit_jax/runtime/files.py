"""Small files that are either complete or as they were, whenever we are killed."""

import json
import os
import pathlib
import tempfile
from typing import Any


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a file that is either complete or absent, whenever we are killed."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """`write_json` for plain text."""
  write_bytes(path, text.encode('utf-8'))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """`write_json` for content that is no text, such as an image."""
  descriptor, temporary = tempfile.mkstemp(prefix='.', dir=path.parent)
  try:
    with os.fdopen(descriptor, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
