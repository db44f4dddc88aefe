"""What there is to do before a data set can be read, and whether it is done."""

import os
import pathlib

import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import builders
from vit_jax.data.data_dir import metadata_dir, tfds_data_dir
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError

# Packages that builders import while they prepare and that nothing here depends on.
_OPENCV = 'opencv-python-headless'
_PACKAGES = {
    'diabetic_retinopathy_detection': _OPENCV,
    'dsprites': 'h5py',
    'kitti': _OPENCV,
    'oxford_flowers102': 'scipy',
    'patch_camelyon': 'h5py',
    'sun397': _OPENCV,
    'svhn_cropped': 'scipy',
}

# What has to lie in the folder for downloads by hand, where it takes more words than
# the builder's own instructions have.
_MANUAL = {
    'diabetic_retinopathy_detection':
        'the folders sample/, train/ and test/ and the file trainLabels.csv',
    'resisc45': 'the folder NWPU-RESISC45/ with one sub-folder per class',
}


def is_prepared(data: DataSection) -> bool:
  """Whether a data set can be opened; reads metadata alone.

  Raises UserError for a name that no data set has.
  """
  if data.name == 'digits':
    return True  # It prepares itself.
  if data.name == 'folder':
    return bool(data.dir) and storage.is_folder(os.path.expanduser(data.dir))
  try:
    return bool(builders.open_builder(data).info.splits)
  except builders.NotPrepared:
    return False


def how_to_prepare(name: str, data_dir: str = '') -> str:
  """The command, the packages and the manual steps, as lines to show to the user.

  Args:
    name: `config.data.name`.
    data_dir: `config.data.dir`; '': TFDS_DATA_DIR or what TFDS takes by itself.

  Raises:
    UserError: for a name that no data set has.
  """
  data_dir = tfds_data_dir(data_dir)
  if name == 'digits':
    return 'digits needs no preparation: the first use writes it.'
  if name == 'folder':
    return ('Put your images into config.data.dir as SPLIT/CLASS/IMAGE, for example '
            'train/cat/0001.jpg.')
  if name == 'imagenet21k':
    from vit_jax.data import imagenet21k
    return imagenet21k.how_to_prepare(data_dir)
  return '\n'.join(_lines(name, data_dir))


def _lines(name: str, data_dir: str) -> list[str]:
  base = name.split('/')[0].split(':')[0]
  lines = []
  preparable, version = _preparable(name, data_dir)
  if preparable != name:
    lines.append(
        f'This TFDS prepares no {name}, but {preparable} (version {version}): use '
        f'config.data.name={preparable}.')
  if base in _PACKAGES:
    lines.append(f'Its preparation needs a package: pip install {_PACKAGES[base]}')
  lines += _manual_steps(base, preparable, data_dir)
  for found in _prepared_versions(base, data_dir):
    lines.append(f'There is another version of it: config.data.name={found} reads it.')
  # Not the `tfds build` command: in TFDS 4.9.10 it fails without apache_beam.
  lines.append(
      'Prepare it on a machine with a network:\n'
      f'  python -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{preparable}', data_dir='{data_dir}').download_and_prepare()\"")
  lines.append('or name the directory that has it with config.data.dir or '
               'TFDS_DATA_DIR.')
  return lines


def _preparable(name: str, data_dir: str) -> tuple[str, tfds.core.Version | str]:
  """(the name under which TFDS can prepare this data set, the version)."""
  unversioned = name.split(':')[0]
  try:
    builder = builders.open_builder(DataSection(name, data_dir))
    # Older versions are read where they are prepared, and never prepared again.
    known = getattr(builder, 'versions', [builder.version])
    if builder.version in (known[0], max(known)):
      return name, builder.version
  except builders.NotPrepared:
    pass
  return unversioned, tfds.builder(
      unversioned, data_dir=metadata_dir(data_dir, name)).versions[0]


def _prepared_versions(base: str, data_dir: str) -> list[str]:
  # A name without version means the newest that this TFDS knows, whatever there is.
  root = pathlib.Path(metadata_dir(data_dir, base))
  files = [*root.glob(f'{base}/*/dataset_info.json'),
           *root.glob(f'{base}/*/*/dataset_info.json')]
  folders = [file.parent for file in sorted(files)]
  return [f'{folder.parent.relative_to(root)}:{folder.name}' for folder in folders]


def _manual_steps(base: str, name: str, data_dir: str) -> list[str]:
  instructions = getattr(
      tfds.builder(name, data_dir=data_dir), 'MANUAL_DOWNLOAD_INSTRUCTIONS', None)
  if not instructions:
    return []
  folder = os.path.join(data_dir, 'downloads', 'manual')
  steps = [f'It needs files that you download by hand into {folder} first:']
  if base in _MANUAL:
    steps.append(f'  {_MANUAL[base]}.')
  return steps + [f'  {line.strip()}' for line in instructions.strip().splitlines()]


def not_prepared(data: DataSection) -> UserError:
  """The error for a data set whose files are not there."""
  data_dir = tfds_data_dir(data.dir)
  return builders.NotPrepared(
      f'Data set {data.name} is not prepared in {data_dir}.\n'
      f'{how_to_prepare(data.name, data.dir)}')
