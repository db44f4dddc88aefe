"""Settings that `vit_jax plan --tune` found, as a file for `--config.tuned=FILE`.

They change how a step is computed and laid out, not what it computes.
"""

import pathlib
from typing import Any

from vit_jax.config.sections import Config
from vit_jax.config.settings import all_settings
from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError

KIND = 'vit_jax tuned settings'
# What a file may set.
SETTINGS = tuple(key for key, known in all_settings(Config).items()
                 if known.tuning == 'tunable')
# What must be the same where it is used: the program's size.
MADE_FOR = tuple(key for key, known in all_settings(Config).items()
                 if known.tuning == 'made_for')


def read(path: str) -> tuple[dict, dict]:
  """(settings, made for); raises UserError for a file that is missing or no such."""
  try:
    values = json_files.read_object(
        pathlib.Path(path),
        f'`vit_jax plan --tune` writes such a file, with "kind": "{KIND}".')
  except FileNotFoundError as e:
    raise UserError(
        f'Cannot read config.tuned={path!r}: {e.strerror}. `vit_jax plan --tune` '
        'writes such a file.') from e
  if values.get('kind') != KIND:
    raise UserError(_foreign(path, f'it has no "kind": "{KIND}"'))
  settings, made_for = values.get('settings'), values.get('made_for')
  if not isinstance(settings, dict) or not isinstance(made_for, dict):
    raise UserError(_foreign(path, 'it lacks "settings" or "made_for"'))
  unknown = [key for key in settings if key not in SETTINGS]
  if unknown:
    raise UserError(_foreign(
        path, f'it sets {", ".join(unknown)}, and only {", ".join(SETTINGS)} may be '
        'tuned'))
  return settings, made_for


def differences(made_for: dict, config: dict) -> list[str]:
  """'key: there, here' for all that the settings were not made for.

  Args:
    made_for: as `read` returns it.
    config: {dotted key: value} of the run.
  """
  def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
  return [f'config.{key} is {plain(config[key])!r}, they were made for {value!r}'
          for key, value in made_for.items()
          if key in config and plain(config[key]) != value]


def _foreign(path: str, reason: str) -> str:
  return (f'config.tuned={path!r} is no file of tuned settings: {reason}. `vit_jax '
          'plan --tune` writes one.')
