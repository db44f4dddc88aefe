"""A run's work directory: whose it is, and the small files that describe it."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime import code_version, json_files, storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.storage import StorageError
from vit_jax.runtime.storage.urls import PathLike

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


def check_usable(workdir: PathLike, config: Config, dataset: DatasetFacts) -> None:
  """Changes nothing.

  Raises:
    UserError: if `workdir` holds something else, or a run whose settings or data
      differ.
  """
  names = _names(workdir)
  if _CONFIG in names:
    _check_same_run(workdir, config, dataset)
  elif any(not name.startswith('.') for name in names):
    raise UserError(
        f'--workdir={workdir} is not empty and holds no {_CONFIG}, so it is no '
        'work directory of vit_jax. Nothing was changed; give a new or empty '
        'directory.')


def claim(workdir: PathLike, config: Config, dataset: DatasetFacts) -> None:
  """Makes `workdir` this run's; raises UserError as `check_usable`, or if it can't."""
  check_usable(workdir, config, dataset)
  try:
    storage.make_folder(workdir)
    # First: its presence says that the directory is a run's.
    for name, value in ((_CONFIG, config_lib.to_dict(config)),
                        (_DATASET, dataclasses.asdict(dataset)),
                        (_VERSIONS, versions())):
      storage.write_json(storage.join(workdir, name), value)
  except StorageError as e:
    if storage.is_url(workdir):
      raise  # It says what is missing.
    raise UserError(
        f'Cannot write to --workdir={workdir}: {e.reason}. Give a directory '
        'that you may write to.') from e


def _names(workdir: PathLike) -> list[str]:
  """Of what is in a work directory; none if there is no such directory."""
  if storage.is_url(workdir):
    return storage.children(workdir)
  path = pathlib.Path(workdir)
  try:
    if path.exists() and not path.is_dir():
      raise UserError(f'--workdir={workdir} is a file; give a directory.')
    return [p.name for p in path.iterdir()] if path.exists() else []
  except OSError as e:
    raise UserError(
        f'Cannot use --workdir={workdir}: {e.strerror}. Give a directory that you may '
        'read and write to.') from e


def _check_same_run(path: PathLike, config: Config, dataset: DatasetFacts) -> None:
  # A run killed in its first moments has no such file yet.
  has_facts = storage.exists(storage.join(path, _DATASET))
  old = read_dataset(path) if has_facts else dataset
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


def is_run(workdir: PathLike) -> bool:
  """Whether a run has claimed the directory."""
  return storage.exists(storage.join(workdir, _CONFIG))


def read_config(workdir: PathLike) -> Config:
  """The configuration of the run in `workdir`."""
  try:
    return config_lib.from_dict(_read_json(workdir, _CONFIG))
  except UserError as e:
    raise UserError(f'{_CONFIG} of {workdir}: {e}') from e


def read_dataset(workdir: PathLike) -> DatasetFacts:
  """The facts of the run's training data."""
  values = _read_json(workdir, _DATASET)
  names = values.get('class_names')
  counts = [values.get('num_examples'), values.get('num_classes')]
  if (set(values) != {field.name for field in dataclasses.fields(DatasetFacts)}
      or not isinstance(values['name'], str)
      or not all(type(n) is int and n > 0 for n in counts)
      or not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
    raise UserError(
        f'{storage.join(workdir, _DATASET)} does not hold the facts of a data set. '
        f'{_ADVICE}')
  return DatasetFacts(**{**values, 'class_names': tuple(names)})


def _read_json(workdir: PathLike, name: str) -> dict[str, Any]:
  try:
    return json_files.read_object(storage.join(workdir, name), _ADVICE)
  except FileNotFoundError as e:
    raise UserError(
        f'No {name} in {workdir}: it is not the work directory of a run. '
        f'{_runs_inside(workdir)}') from e


def _runs_inside(folder: PathLike) -> str:
  """What to give instead: of a sweep's folder, if it is a local one, a cell."""
  cells = sorted(pathlib.Path(folder).glob(f'cells/*/{_CONFIG}'),
                 key=lambda path: (not any(path.parent.glob('checkpoints/*')), path))
  if not cells:
    return 'Give the --workdir of a `vit_jax train`.'
  return ('It is that of a sweep: give the folder of one of its cells, such as '
          f'--workdir={cells[0].parent}.')


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
