"""From a config file and `--config.key=value` overrides to a checked `Config`.

A config file is Python with `get_config()` or `get_config(arg)`, addressed as
`path/to/file.py` or `path/to/file.py:arg`. It returns a `ConfigDict` that holds
what differs from the defaults of `vit_jax.config.sections`.
"""

import difflib
import importlib.util
import inspect
import os
import types
from collections.abc import Collection, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from vit_jax.config import tuned, values
from vit_jax.config.checks import check, complete_sizes
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError


def load(spec: str, overrides: Sequence[str] = ()) -> Config:
  """The checked configuration of `spec` with overrides applied.

  Args:
    spec: `path/to/file.py` or `path/to/file.py:arg`.
    overrides: command-line words such as `--config.batch_size=64`.

  Raises:
    UserError: for a missing file, an unknown key or an impossible value.
  """
  config = apply_overrides(values.from_dict(_read_file(spec)), overrides)
  if config.tuned:
    config = apply_overrides(with_tuned(config), overrides)
  return check(config)


def with_tuned(config: Config) -> Config:
  """`config` with the settings of the file `config.tuned` names, if any.

  Raises:
    UserError: if the file is missing, or was made for another model or batch.
  """
  if not config.tuned:
    return config
  settings, made_for = tuned.read(config.tuned)
  config = complete_sizes(config)
  wrong = tuned.differences(made_for, dict(values.flatten(values.to_dict(config))))
  if wrong:
    raise UserError(
        f'config.tuned={config.tuned!r} holds settings for another run: '
        f'{"; ".join(wrong)}. Tune this one with `vit_jax plan --tune`, or leave '
        'config.tuned out.')
  return values.with_values(config, settings)


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
  """`config` with command-line words such as `--config.mesh.fsdp=4` applied.

  One of `total_steps` and `total_epochs` replaces the other.
  """
  overrides = list(overrides)
  if not overrides:
    return config
  base = values.to_config_dict(config)
  known = dict(values.flatten(values.to_dict(config)))
  known |= dict(values.flatten_items(known))
  keys = set()
  for word in overrides:
    if word.startswith(('--config.', '-config.')):
      key = word.lstrip('-').split('=', 1)[0].split('.', 1)[1]
      # A field of a section in a tuple, or an index into a plain tuple.
      values.check_key(key if '].' in key else key.split('[')[0], known)
      keys.add(key)
  flag_values = flags.FlagValues()
  argv = ['vit_jax', *overrides]
  try:
    config_flags.DEFINE_config_dict(
        'config', base, flag_values=flag_values, sys_argv=argv)
    rest = flag_values(argv)[1:]
  except (flags.Error, TypeError, ValueError) as e:
    raise UserError(f'Cannot apply {" ".join(overrides)}: {e}') from e
  if rest:
    raise UserError(
        f'Unexpected argument {rest[0]!r}. Overrides have the form '
        '--config.<key>=<value>.')
  changed: Any = flag_values['config'].value
  return _with_one_total(config, values.from_dict(changed.to_dict()), keys)


def read_module(spec: str) -> tuple[types.ModuleType, str, str]:
  """(the module of `path/to/file.py:arg`, the path, the arg or '').

  Raises:
    UserError: if there is no such Python file.
  """
  path, _, arg = spec.partition(':')
  if not os.path.isfile(path):
    raise UserError(
        f'No config file {path!r} in {os.getcwd()}.{_nearest(path)} Give a Python file '
        'such as --config=configs/digits.py.')
  module_spec = importlib.util.spec_from_file_location('vit_jax_user_config', path)
  if module_spec is None or module_spec.loader is None:
    raise UserError(f'Config {path!r} is not a Python file (*.py).')
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  return module, path, arg


def _nearest(path: str) -> str:
  """A hint at the config file of the same folder that may be meant, or ''."""
  folder, name = os.path.split(path)
  try:
    known = [entry for entry in os.listdir(folder or '.') if entry.endswith('.py')]
  except OSError:
    return ''
  near = difflib.get_close_matches(name, known, n=1)
  return f' Did you mean {os.path.join(folder, near[0])!r}?' if near else ''


def _with_one_total(config: Config, changed: Config, keys: Collection[str]) -> Config:
  """`changed` with the total that an override replaces by the other one at zero."""
  totals = {'total_steps': 0, 'total_epochs': 0.0}
  given = [key for key in totals if key in keys and values.get(changed, key)]
  if len(given) == 1:
    for other in totals.keys() - set(keys):
      if values.get(config, other):
        changed = values.replace(changed, other, totals[other])
  return changed


def _read_file(spec: str) -> dict[str, Any]:
  module, path, arg = read_module(spec)
  get_config = getattr(module, 'get_config', None)
  if get_config is None:
    raise UserError(f'Config file {path!r} defines no get_config() function.')
  takes_arg = bool(inspect.signature(get_config).parameters)
  if arg and not takes_arg:
    raise UserError(f'{path!r} takes no argument, but got {arg!r} after the colon.')
  config = get_config(arg) if arg else get_config()
  return config.to_dict() if hasattr(config, 'to_dict') else dict(config)
