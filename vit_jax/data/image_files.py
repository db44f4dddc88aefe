"""Image files of any kind, preprocessed as for evaluation.

Their pixels are taken to fill 0..255, as those of files do: `data.pixel_factor`, which
speaks of a data set's records, is not applied.
"""

import os
from collections.abc import Iterable, Iterator

import numpy as np

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import sources, tensorflow
from vit_jax.preprocessing import placement
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.host import ops as host_ops
from vit_jax.runtime.errors import DataError, UserError


class ImageReader:
  """Reads image files, from any thread.

  Attributes:
    remaining: the preprocessing left to `augment.eval_images`.
  """

  def __init__(self, data: DataSection) -> None:
    """Raises UserError where evaluation would be random."""
    placement.check_not_random(data.eval)
    # Files of any size, so everything is done here.
    placed = placement.place_streamed(data.eval, data.image_size, None)
    if placed.host_size != tuple(data.image_size):
      placed = placement.Placement(data.eval, data.image_size, PreprocessSection())
    self.remaining = placed.remaining
    self._as_shown = sources.as_shown(data, files=True)
    self._tf = tf = tensorflow.load()
    self._prepare = tf.function(
        host_ops.make_prepare(tf, placed.host, placed.host_size),
        input_signature=[tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int64),
                         tf.TensorSpec((), tf.int32)])

  def read(self, path: str | os.PathLike) -> np.ndarray:
    """uint8 (h, w, 3); DataError, naming the file, for what is no intact image."""
    path = os.fspath(path)
    try:
      with open(path, 'rb') as f:
        image = decode.portable(f.read(), as_shown=self._as_shown)
    except OSError as e:
      raise DataError(f'{path} cannot be read ({e.strerror}); expected an image file.'
                      ) from e
    except DataError as e:
      raise DataError(f'{path}: {e}') from e
    try:
      return self._prepare(
          image.data, np.zeros(2, np.int64), image.orientation).numpy()
    except self._tf.errors.OpError as e:
      reason = host_ops.reason(e).split('\n')[0]
      raise DataError(
          f'{path} is cut off, damaged, or smaller than the crop ({reason}); expected '
          'an intact image: replace it.') from e


def find_images(paths: Iterable[str | os.PathLike]) -> list[str]:
  """Files as they are; folders as their images, sorted, with those in their folders.

  In folders the ending of a name says whether a file is an image; hidden ones are none.

  Raises:
    UserError: for a folder without images, and for no paths.
  """
  found = []
  for path in map(os.fspath, paths):
    if not os.path.isdir(path):
      found.append(path)
      continue
    inside = list(_images_below(path))
    if not inside:
      raise UserError(f'{path} holds no images; expected files named '
                      f'{", ".join(decode.endings())} in it or in its folders.')
    found += sorted(inside)
  if not found:
    raise UserError('There are no images to predict; name at least one image file.')
  return found


def _images_below(top: str) -> Iterator[str]:
  for folder, folders, names in os.walk(top, onerror=_raise):
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in names:
      if decode.has_image_ending(name) and not name.startswith('.'):
        yield os.path.join(folder, name)


def _raise(error: OSError) -> None:
  raise UserError(f'{error.filename} cannot be listed ({error.strerror}); expected a '
                  'folder of images.') from error
