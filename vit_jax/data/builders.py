"""From `config.data.name` to the TFDS builder of a data set, never over the network."""

import difflib
import re

import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data.roots import data_root
from vit_jax.runtime.errors import UserError, first_line

# Data sets that are ours; all other names are those of TFDS.
OWN = ('digits', 'folder', 'imagenet21k')


class NotPrepared(UserError):
  """The data set is known, but its files are not there."""


def open_builder(data: DataSection):
  """The builder; its `info.splits` is empty where nothing is prepared.

  Raises:
    UserError: for a name or a directory that cannot be.
    NotPrepared: where not even a builder can be made of what is there.
  """
  root = data_root(data.dir)
  if '://' in root:
    raise UserError(
        f'config.data.dir={root!r} is on an object store, which is not supported; '
        'expected a local path: copy the data set to a disk, or mount the bucket '
        '(for example with gcsfuse) and name the mount point.')
  if data.name == 'digits':
    from vit_jax.data import digits
    return digits.builder(root)
  if data.name == 'imagenet21k':
    from vit_jax.data import imagenet21k
    if builder := imagenet21k.find(root):
      return builder
    raise NotPrepared(f'Data set imagenet21k is not prepared in {root}.')
  return _tfds_builder(data.name, root)


def _tfds_builder(name, root):
  _check_name(name)
  try:
    return tfds.builder(name, data_dir=root)
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


def _check_name(name):
  # TFDS would look up other namespaces, e.g. 'huggingface:x', over the network.
  if not re.fullmatch(r'[A-Za-z_]\w*(/[\w.+-]+)*(:[\d*][\w.*]*)?', name):
    raise UserError(
        f'config.data.name={name!r} is no name of a data set. Expected a TFDS name '
        f"such as 'cifar10' or 'sun397/tfds:4.*.*', or one of {', '.join(OWN)}.")


def _unknown_name(name):
  # Community data sets would be looked up over the network.
  known = [*OWN, *tfds.list_builders(with_community_datasets=False)]
  close = difflib.get_close_matches(
      re.split('[/:]', name)[0].lower(), sorted(set(known)), n=3)
  nearest = (f'Did you mean {" or ".join(close)}?' if close else
             'See https://www.tensorflow.org/datasets/catalog for the names.')
  return (f'There is no data set {name!r}, expected a TFDS name or one of '
          f'{", ".join(OWN)}. {nearest} For images of your own use '
          'config.data.name=folder.')
