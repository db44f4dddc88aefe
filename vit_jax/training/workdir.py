"""A run's work directory: whose it is, and the small files that describe it."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime import code_version, files, json_files
from vit_jax.runtime.errors import UserError

_CONFIG = 'config.json'
_DATASET = 'dataset.json'
_VERSIONS = 'versions.json'
_ADVICE = 'Restore the file, or give another --workdir.'


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
  """What predictions need to know of the training data."""
  name: str
  num_examples: int
  num_classes: int
  class_names: tuple[str, ...]


def check_usable(workdir: str, config: Config, dataset: DatasetFacts) -> None:
  """Changes nothing.

  Raises:
    UserError: if `workdir` holds something else, or a run whose settings or data
      differ.
  """
  path = pathlib.Path(workdir)
  try:
    if path.exists() and not path.is_dir():
      raise UserError(f'--workdir={workdir} is a file; give a directory.')
    has_config = (path / _CONFIG).exists()
    in_use = path.exists() and any(
        not p.name.startswith('.') for p in path.iterdir())
  except OSError as e:
    raise UserError(
        f'Cannot use --workdir={workdir}: {e.strerror}. Give a directory that you may '
        'read and write to.') from e
  if has_config:
    _check_same_run(path, config, dataset)
  elif in_use:
    raise UserError(
        f'--workdir={workdir} is not empty and holds no {_CONFIG}, so it is no '
        'work directory of vit_jax. Nothing was changed; give a new or empty '
        'directory.')


def claim(workdir: str, config: Config, dataset: DatasetFacts) -> pathlib.Path:
  """Makes `workdir` this run's; raises UserError as `check_usable`, or if it can't."""
  check_usable(workdir, config, dataset)
  path = pathlib.Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    # First: its presence says that the directory is a run's.
    files.write_json(path / _CONFIG, config_lib.to_dict(config))
    files.write_json(path / _DATASET, dataclasses.asdict(dataset))
    files.write_json(path / _VERSIONS, versions())
  except OSError as e:
    raise UserError(
        f'Cannot write to --workdir={workdir}: {e.strerror}. Give a directory '
        'that you may write to.') from e
  return path


def _check_same_run(path: pathlib.Path, config: Config, dataset: DatasetFacts) -> None:
  # A run killed in its first moments has no such file yet.
  old = read_dataset(path) if (path / _DATASET).exists() else dataset
  if old != dataset:
    raise UserError(
        f'--workdir={path} was trained on {old.num_examples} examples of the classes '
        f'{shorten(old.class_names)}; {config.data.name} now has '
        f'{dataset.num_examples} of {shorten(dataset.class_names)}. Nothing was '
        'changed. Restore the data, or give another --workdir.')
  changed = config_lib.differences(read_config(path), config)
  if changed:
    lines = '\n'.join(
        f'  config.{key}: {old!r} there, {new!r} here' for key, old, new in changed)
    raise UserError(
        f'--workdir={path} holds a run with other settings:\n{lines}\n'
        'Nothing was changed. Give another --workdir, or the same settings to '
        'resume.')


def is_run(workdir: str) -> bool:
  """Whether a run has claimed the directory."""
  return (pathlib.Path(workdir) / _CONFIG).exists()


def read_config(workdir: str | pathlib.Path) -> Config:
  """The configuration of the run in `workdir`."""
  try:
    return config_lib.from_dict(_read_json(workdir, _CONFIG))
  except UserError as e:
    raise UserError(f'{_CONFIG} of {workdir}: {e}') from e


def read_dataset(workdir: str | pathlib.Path) -> DatasetFacts:
  """The facts of the run's training data."""
  values = _read_json(workdir, _DATASET)
  names = values.get('class_names')
  counts = [values.get('num_examples'), values.get('num_classes')]
  if (set(values) != {field.name for field in dataclasses.fields(DatasetFacts)}
      or not isinstance(values['name'], str)
      or not all(type(n) is int and n > 0 for n in counts)
      or not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
    raise UserError(
        f'{pathlib.Path(workdir) / _DATASET} does not hold the facts of a data set. '
        f'{_ADVICE}')
  return DatasetFacts(**{**values, 'class_names': tuple(names)})


def _read_json(workdir: str | pathlib.Path, name: str) -> dict[str, Any]:
  try:
    return json_files.read_object(pathlib.Path(workdir) / name, _ADVICE)
  except FileNotFoundError as e:
    raise UserError(
        f'No {name} in {workdir}: it is not the work directory of a run. Give the '
        '--workdir of a `vit_jax train`.') from e


def shorten(names: Sequence[str], most: int = 5) -> str:
  """'a, b, c' of names, cut after `most` with their number."""
  more = f', ... ({len(names)})' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def versions() -> dict[str, str | None]:
  """Of the packages that a run uses, and of this code; None for what is not there."""
  packages = ('vit_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint',
              'tensorflow-datasets', 'numpy',
              # The compiler on a TPU, and what decodes the images.
              'libtpu', 'tensorflow', 'tensorflow-cpu')
  found = {}
  for package in packages:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  return {**found, 'code': code_version.current()}
