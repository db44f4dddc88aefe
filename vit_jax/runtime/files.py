"""Small text files that are either complete or as they were, whenever we are killed."""

import json
import os
import pathlib
import tempfile


def write_json(path: pathlib.Path, value: object) -> None:
  """Writes a file that is either complete or absent, whenever we are killed."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """`write_json` for plain text."""
  descriptor, temporary = tempfile.mkstemp(prefix='.', dir=path.parent)
  try:
    with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise
