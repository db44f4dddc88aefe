"""What compilations have found out, kept for the next search."""

import hashlib
import importlib.metadata
import inspect
import json
import pathlib
from typing import Any

import jax

from vit_jax.config.sections import Config
from vit_jax.parallel import tpu_generations, tpu_slices
from vit_jax.plan import hlo, hlo_flops, hlo_traffic, network, program_cost
from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.files import write_json
from vit_jax.training.compiler_options import compiler_options

# The estimate is ours: these modules say what it is.
_ESTIMATE = (program_cost, hlo, hlo_traffic, hlo_flops, network, tpu_slices,
             tpu_generations)


class CostCache:
  """Results in a JSON file that is always complete, by program and compiler.

  Raises:
    UserError: where the file cannot be read, or not be written.
  """

  def __init__(self, path: str | pathlib.Path) -> None:
    self._path = pathlib.Path(path)
    self._values: dict[str, dict[str, Any]] = {}
    if self._path.exists():
      self._values = json_files.read_object(
          self._path, 'Remove it, or name another file.')

  def __contains__(self, key: str) -> bool:
    return key in self._values

  def __getitem__(self, key: str) -> dict[str, Any]:
    return self._values[key]

  def __setitem__(self, key: str, value: dict[str, Any]) -> None:
    self._values[key] = value
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      write_json(self._path, self._values)
    except OSError as e:
      raise UserError(f'Cannot write {self._path}: {e.strerror}. Name another file.'
                      ) from e


def program_key(lowered: jax.stages.Lowered, config: Config, target_name: str) -> str:
  """Names a program for some slices, the compiler and its options."""
  parts = [lowered.as_text(), target_name,
           json.dumps(compiler_options(config, 'tpu'), sort_keys=True),
           *(importlib.metadata.version(p) for p in ('jax', 'libtpu'))]
  parts += [inspect.getsource(module) for module in _ESTIMATE]
  return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:24]
