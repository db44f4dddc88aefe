"""A run's work directory: whose it is, and the small files that describe it."""

import dataclasses
import importlib.metadata
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime import code_version, files
from vit_jax.runtime.errors import UserError

_CONFIG = 'config.json'
_DATASET = 'dataset.json'
_VERSIONS = 'versions.json'


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
  if path.exists() and not path.is_dir():
    raise UserError(f'--workdir={workdir} is a file; give a directory.')
  if (path / _CONFIG).exists():
    _check_same_run(path, config, dataset)
  elif path.exists() and any(
      not p.name.startswith('.') for p in path.iterdir()):
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
    files.write_json(path / _VERSIONS, _versions())
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


def read_config(workdir: str | pathlib.Path) -> Config:
  """The configuration of the run in `workdir`."""
  return config_lib.from_dict(_read_json(workdir, _CONFIG))


def read_dataset(workdir: str | pathlib.Path) -> DatasetFacts:
  """The facts of the run's training data."""
  values = _read_json(workdir, _DATASET)
  return DatasetFacts(**{**values, 'class_names': tuple(values['class_names'])})


def _read_json(workdir: str | pathlib.Path, name: str) -> dict[str, Any]:
  path = pathlib.Path(workdir) / name
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError as e:
    raise UserError(
        f'No {name} in {workdir}: it is not the work directory of a run. '
        f'{_runs_inside(path.parent)}') from e
  except (OSError, ValueError) as e:
    raise UserError(f'Cannot read {path}: {e}') from e


def _runs_inside(folder: pathlib.Path) -> str:
  """What to give instead: of a sweep's folder one of its cells."""
  cells = sorted(folder.glob(f'cells/*/{_CONFIG}'),
                 key=lambda path: (not any(path.parent.glob('checkpoints/*')), path))
  if not cells:
    return 'Give the --workdir of a `vit_jax train`.'
  return (f'It is that of a sweep: give the folder of one of its cells, such as '
          f'--workdir={cells[0].parent}.')


def shorten(names: Sequence[str], most: int = 5) -> str:
  """'a, b, c' of names, cut after `most` with their number."""
  more = f', ... ({len(names)})' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def _versions() -> dict[str, str | None]:
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
