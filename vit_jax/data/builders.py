"""From `config.data.name` to the TFDS builder of a data set, never over the network."""

import difflib
import re
from typing import Any

import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data.data_dir import metadata_dir, tfds_data_dir
from vit_jax.runtime.errors import UserError, first_line

# Data sets that are ours; all other names are those of TFDS.
OWN = ('digits', 'folder', 'imagenet21k')


class NotPrepared(UserError):
  """The data set is known, but its files are not there."""


def open_builder(data: DataSection) -> tfds.core.DatasetBuilder:
  """The builder; its `info.splits` is empty where nothing is prepared.

  Raises:
    UserError: for a name or a directory that cannot be.
    NotPrepared: where not even a builder can be made of what is there.
  """
  _check_name(data.name)
  data_dir = metadata_dir(tfds_data_dir(data.dir), data.name)
  if data.name == 'digits':
    from vit_jax.data import digits
    return digits.builder(data_dir)
  if data.name == 'imagenet21k':
    from vit_jax.data import imagenet21k
    if builder := imagenet21k.find(data_dir):
      return builder
    raise NotPrepared(f'Data set imagenet21k is not prepared in {data_dir}.')
  return _tfds_builder(data.name, data_dir)


def features(builder: tfds.core.DatasetBuilder) -> tfds.features.FeaturesDict:
  """Of the records of a data set; known without its files."""
  found: Any = builder.info.features
  return found


def file_format(builder: tfds.core.DatasetBuilder) -> str:
  """Such as 'tfrecord'."""
  found: Any = builder.info.file_format
  return found.value


def _tfds_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as e:
    raise UserError(_unknown_name(name)) from e
  except AssertionError as e:
    # A version that is not prepared, and that this TFDS does not know.
    raise NotPrepared(f'TFDS cannot open config.data.name={name!r}: {first_line(e)}'
                      ) from e
  except ValueError as e:
    raise UserError(
        f'TFDS cannot open config.data.name={name!r}: {first_line(e)} Expected '
        "NAME, NAME/CONFIG or NAME/CONFIG:VERSION such as 'cifar10:3.*.*'.") from e


def _check_name(name: str) -> None:
  # TFDS would look up other namespaces, e.g. 'huggingface:x', over the network.
  if not re.fullmatch(r'[A-Za-z_]\w*(/[\w.+-]+)*(:[\d*][\w.*]*)?', name):
    raise UserError(
        f'config.data.name={name!r} is no name of a data set. Expected a TFDS name '
        f"such as 'cifar10' or 'sun397/tfds:4.*.*', or one of {', '.join(OWN)}.")


def _unknown_name(name: str) -> str:
  # Community data sets would be looked up over the network.
  known = [*OWN, *tfds.list_builders(with_community_datasets=False)]
  close = difflib.get_close_matches(
      re.split('[/:]', name)[0].lower(), sorted(set(known)), n=3)
  nearest = (f'Did you mean {" or ".join(close)}?' if close else
             'See https://www.tensorflow.org/datasets/catalog for the names.')
  return (f'There is no data set {name!r}, expected a TFDS name or one of '
          f'{", ".join(OWN)}. {nearest} For images of your own use '
          'config.data.name=folder.')
