"""From a config file and `--config.key=value` overrides to a checked `Config`.

A config file is Python with `get_config()` or `get_config(arg)`, addressed as
`path/to/file.py` or `path/to/file.py:arg`. It returns a `ConfigDict` that holds
what differs from the defaults of `vit_jax.config.sections`.
"""

import collections.abc
import dataclasses
import difflib
import importlib.util
import inspect
import os
import typing

import ml_collections
from absl import flags
from ml_collections import config_flags

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config import tuned
from vit_jax.config.sections import Config
from vit_jax.runtime import compiler_options
from vit_jax.runtime.errors import UserError, check_choice


def load(spec: str, overrides=()) -> Config:
  """The checked configuration of `spec` with overrides applied.

  Args:
    spec: `path/to/file.py` or `path/to/file.py:arg`.
    overrides: command-line words such as `--config.batch_size=64`.

  Raises:
    UserError: for a missing file, an unknown key or an impossible value.
  """
  config = apply_overrides(from_dict(_read_file(spec)), overrides)
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
  config = _complete_sizes(config)
  wrong = tuned.differences(made_for, dict(_flatten(to_dict(config))))
  if wrong:
    raise UserError(
        f'config.tuned={config.tuned!r} holds settings for another run: '
        f'{"; ".join(wrong)}. Tune this one with `vit_jax plan --tune`, or leave '
        'config.tuned out.')
  return with_values(config, settings)


def apply_overrides(config: Config, overrides) -> Config:
  """`config` with command-line words such as `--config.mesh.fsdp=4` applied."""
  overrides = list(overrides)
  if not overrides:
    return config
  base = to_config_dict(config)
  known = dict(_flatten(to_dict(config)))
  known |= dict(_flatten_items(known))
  for word in overrides:
    if word.startswith(('--config.', '-config.')):
      key = word.lstrip('-').split('=', 1)[0].split('.', 1)[1]
      # A field of a section in a tuple, or an index into a plain tuple.
      _check_key(key if '].' in key else key.split('[')[0], known)
  values = flags.FlagValues()
  argv = ['vit_jax', *overrides]
  try:
    config_flags.DEFINE_config_dict(
        'config', base, flag_values=values, sys_argv=argv)
    rest = values(argv)[1:]
  except (flags.Error, TypeError, ValueError) as e:
    raise UserError(f'Cannot apply {" ".join(overrides)}: {e}') from e
  if rest:
    raise UserError(
        f'Unexpected argument {rest[0]!r}. Overrides have the form '
        '--config.<key>=<value>.')
  return from_dict(values['config'].value.to_dict())


def from_dict(values: dict) -> Config:
  """A `Config` from a nested dict that may leave out defaults."""
  known = dict(_flatten(to_dict(Config())))
  for key, _ in _flatten(values):
    _check_key(key, known)
  return _build(Config, values, '')


def with_values(config: Config, values: dict) -> Config:
  """`config` with {dotted key: value} applied; raises UserError for unknown keys."""
  nested = {}
  for key, value in values.items():
    *sections, last = key.split('.')
    place = nested
    for name in sections:
      place = place.setdefault(name, {})
    place[last] = value
  # Only for its checks and conversions: keys that are not given are defaults there.
  checked = from_dict(nested)
  for key, _ in _flatten(nested):
    config = replace(config, key, get(checked, key))
  return config


def to_dict(config) -> dict:
  """Nested plain dict of every key, defaults included; JSON can hold it."""
  return dataclasses.asdict(config)


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(to_dict(config))


def read_module(spec: str):
  """(the module of `path/to/file.py:arg`, the path, the arg or '').

  Raises:
    UserError: if there is no such Python file.
  """
  path, _, arg = spec.partition(':')
  if not os.path.isfile(path):
    raise UserError(
        f'No config file {path!r} in {os.getcwd()}. Give a Python file such as '
        '--config=configs/digits.py.')
  module_spec = importlib.util.spec_from_file_location('vit_jax_user_config', path)
  if module_spec is None:
    raise UserError(f'Config {path!r} is not a Python file (*.py).')
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  return module, path, arg


def _read_file(spec: str) -> dict:
  module, path, arg = read_module(spec)
  get_config = getattr(module, 'get_config', None)
  if get_config is None:
    raise UserError(f'Config file {path!r} defines no get_config() function.')
  takes_arg = bool(inspect.signature(get_config).parameters)
  if arg and not takes_arg:
    raise UserError(f'{path!r} takes no argument, but got {arg!r} after the colon.')
  config = get_config(arg) if arg else get_config()
  return config.to_dict() if hasattr(config, 'to_dict') else dict(config)


def _flatten(values, prefix=''):
  for key, value in values.items():
    if isinstance(value, dict):
      yield from _flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _flatten_items(flat):
  """('evaluators[0].name', value), ...: the sections that are items of tuples."""
  for key, value in flat.items():
    if isinstance(value, tuple):
      for i, item in enumerate(value):
        if isinstance(item, dict):
          yield from _flatten(item, f'{key}[{i}].')


def _check_key(key, known):
  if key in known:
    return
  near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
  # 'data.imagesize' is nearest by its last word when the prefix is wrong too.
  if not near:
    last = {k.rsplit('.', 1)[-1]: k for k in known}
    near = [last[n] for n in difflib.get_close_matches(
        key.rsplit('.', 1)[-1], last, n=1)]
  hint = f' Did you mean config.{near[0]}?' if near else ''
  raise UserError(
      f'Unknown config key config.{key}.{hint} '
      '`vit_jax config --config=FILE` prints all of them.')


def _build(cls, values, prefix):
  fields = {}
  for field in dataclasses.fields(cls):
    if field.name not in values:
      continue
    name = prefix + field.name
    value = values[field.name]
    if dataclasses.is_dataclass(field.type):
      if not isinstance(value, dict):
        raise UserError(f'config.{name} is a section, not a value: got {value!r}.')
      fields[field.name] = _build(field.type, value, name + '.')
    elif typing.get_args(field.type):
      fields[field.name] = _build_items(typing.get_args(field.type)[0], value, name)
    else:
      fields[field.name] = _coerce(value, field.type, name)
  return cls(**fields)


def _build_items(cls, values, name):
  """A tuple of sections; each may leave out defaults."""
  if not isinstance(values, list | tuple):
    raise UserError(f'config.{name} takes a tuple of sections, got {values!r}.')
  items = []
  for i, value in enumerate(values):
    prefix = f'{name}[{i}].'
    if not isinstance(value, collections.abc.Mapping):
      raise UserError(f'config.{name}[{i}] takes a dict, got {value!r}.')
    known = [prefix + field.name for field in dataclasses.fields(cls)]
    for key in value:
      _check_key(prefix + key, known)
    items.append(_build(cls, value, prefix))
  return tuple(items)


def _coerce(value, kind, name):
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if kind is int and isinstance(value, float) and value == int(value):
    return int(value)
  if kind is tuple and isinstance(value, list):
    return _deep_tuple(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise UserError(
        f'config.{name} takes a value of type {kind.__name__}, got {value!r}.')
  return value


def _deep_tuple(value):
  return tuple(_deep_tuple(v) if isinstance(v, list) else v for v in value)


# Sizes given as (height, width); one number means a square.
_SIZES = {
    'model': ('patch_size',),
    'data': ('image_size',),
    'data.train': ('resize',),
    'data.eval': ('resize',),
    'init': ('position_grid',),
}

_CHOICES = {
    'checkpoint.best_mode': ('max', 'min'),
    'data.cache': ('auto', 'always', 'never'),
    'loss.name': ('softmax', 'sigmoid'),
}

_POSITIVE = ('batch_size', 'accum_steps', 'log_every', 'checkpoint.every',
             'checkpoint.keep', 'data.pixel_factor')

_NOT_NEGATIVE = ('total_steps', 'total_epochs', 'eval_every', 'eval_batch_size',
                 'data.max_bad_records', 'data.max_examples', 'data.max_labels',
                 'mixup.alpha', 'mixup.cutmix_alpha', 'profile.start', 'profile.steps')

# What must agree between a work directory's run and the command that resumes
# it; everything else (logging, checkpoint spacing, mesh, length) may change.
TRAJECTORY = ('seed', 'batch_size', 'accum_steps', 'ema_decay', 'model', 'data',
              'optimizer', 'schedule', 'loss', 'mixup', 'init')


def check(config: Config) -> Config:
  """`config` with sizes completed, or a UserError that names the wrong key."""
  config = _complete_sizes(config)
  flat = dict(_flatten(to_dict(config)))
  for key, choices in _CHOICES.items():
    check_choice(key, flat[key], choices)
  for key in _POSITIVE:
    if flat[key] < 1:
      raise UserError(f'config.{key} is {flat[key]}; it must be at least 1.')
  for key in _NOT_NEGATIVE:
    if flat[key] < 0:
      raise UserError(f'config.{key} is {flat[key]}; it must be at least 0.')
  for key in ('model.dropout', 'model.attention_dropout', 'model.stochastic_depth'):
    if not 0 <= flat[key] < 1:
      raise UserError(f'config.{key} is {flat[key]}; it must be in [0, 1).')
  if not 0 <= config.mixup.cutmix_probability <= 1:
    raise UserError(
        f'config.mixup.cutmix_probability is {config.mixup.cutmix_probability}; it '
        'must be in [0, 1].')
  if not 0 <= config.seed < 2**32:
    raise UserError(f'config.seed is {config.seed}; it must be in [0, 2**32).')
  if (config.total_steps > 0) == (config.total_epochs > 0):
    raise UserError(
        f'config.total_steps is {config.total_steps} and config.total_epochs is '
        f'{config.total_epochs}; set exactly one of them above 0, the other to 0.')
  if config.batch_size % config.accum_steps:
    raise UserError(
        f'config.batch_size {config.batch_size} does not divide into '
        f'config.accum_steps {config.accum_steps} equal parts.')
  if not 0 <= config.ema_decay < 1:
    raise UserError(f'config.ema_decay is {config.ema_decay}; it must be in [0, 1).')
  compiler_options.check(config)
  evaluator_settings.check(config)
  _check_best_metric(config)
  return config


def _check_best_metric(config):
  metric, every = config.checkpoint.best_metric, config.checkpoint.every
  if not metric:
    return
  splits = [name for name, split in (
      ('val', config.data.val_split), ('test', config.data.test_split)) if split]
  known = {f'{split}/{name}': 1 for split in splits for name in ('accuracy', 'loss')}
  for section in config.evaluators:
    known |= dict.fromkeys(evaluator_settings.metric_names(section), section.every)
  if metric not in known:
    raise UserError(
        f'config.checkpoint.best_metric is {metric!r}; this run measures '
        f'{", ".join(known) or "nothing, as it has neither val nor test split"}.')
  if config.eval_every < 1 or every % (config.eval_every * known[metric]):
    times = f' x {known[metric]} of the evaluator' if known[metric] > 1 else ''
    raise UserError(
        f'config.checkpoint.best_metric needs an evaluation at every checkpoint: '
        f'config.checkpoint.every {every} must be a multiple of config.eval_every, '
        f'which is {config.eval_every}{times}.')


def _complete_sizes(config):
  for section, names in _SIZES.items():
    for name in names:
      size = get(config, section + '.' + name)
      if len(size) == 1:
        size = size * 2
      if len(size) not in (0, 2) or any(
          not isinstance(s, int) or s < 1 for s in size):
        raise UserError(
            f'config.{section}.{name} is {size!r}; it takes (height, width).')
      config = replace(config, f'{section}.{name}', tuple(size))
  if not config.data.image_size:
    raise UserError('config.data.image_size is empty; it takes (height, width).')
  return config


def get(config: Config, key: str):
  """The value at a dotted key."""
  for name in key.split('.'):
    config = getattr(config, name)
  return config


def replace(config, key: str, value):
  """`config` with the value at a dotted key replaced."""
  name, _, rest = key.partition('.')
  if rest:
    value = replace(getattr(config, name), rest, value)
  return dataclasses.replace(config, **{name: value})


def differences(old: Config, new: Config, keys=TRAJECTORY) -> list:
  """(key, old value, new value) of all settings under `keys` that differ."""
  before, after = dict(_flatten(to_dict(old))), dict(_flatten(to_dict(new)))
  return [(k, before[k], after[k]) for k in before
          if before[k] != after[k] and any(
              k == key or k.startswith(key + '.') for key in keys)]
