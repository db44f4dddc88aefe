"""Small files that are either complete or as they were, whenever we are killed."""

import json
import pathlib
from typing import Any

from vit_jax.runtime.storage import disk


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a file that is either complete or absent, whenever we are killed."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """`write_json` for plain text."""
  write_bytes(path, text.encode('utf-8'))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """`write_json` for content that is no text, such as an image."""
  disk.write_whole(path, content)
