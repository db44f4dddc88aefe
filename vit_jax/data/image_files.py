"""Image files of any kind, preprocessed as for evaluation.

Their pixels are taken to fill 0..255, as those of files do: `data.pixel_factor`, which
speaks of a data set's records, is not applied.
"""

import os
from collections.abc import Iterable
from types import ModuleType

import numpy as np

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import sources, tensorflow
from vit_jax.preprocessing import placement
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.host import ops as host_ops
from vit_jax.runtime.errors import DataError, UserError


def read_image_files(paths: Iterable[str | os.PathLike], data: DataSection
                     ) -> tuple[np.ndarray, PreprocessSection]:
  """(uint8 (len(paths), h, w, 3), the preprocessing left to `augment.eval_images`).

  Raises DataError, naming the file, for what is missing or no intact image.
  """
  paths = [os.fspath(path) for path in paths]
  if not paths:
    raise UserError('There are no images to predict; name at least one image file.')
  placement.check_not_random(data.eval)
  # Files of any size, so everything is done here.
  placed = placement.place_streamed(data.eval, data.image_size, None)
  if placed.host_size != tuple(data.image_size):
    placed = placement.Placement(data.eval, data.image_size, PreprocessSection())
  as_shown = sources.as_shown(data, files=True)
  encoded = [_read(path, as_shown) for path in paths]
  tf = tensorflow.load()
  prepare = tf.function(host_ops.make_prepare(tf, placed.host, placed.host_size),
                        input_signature=[tf.TensorSpec((), tf.string),
                                         tf.TensorSpec((2,), tf.int64),
                                         tf.TensorSpec((), tf.int32)])
  images = [_decode(tf, prepare, *pair) for pair in zip(encoded, paths, strict=True)]
  return np.stack(images), placed.remaining


def _read(path: str, as_shown: bool) -> decode.Portable:
  try:
    with open(path, 'rb') as f:
      return decode.portable(f.read(), as_shown=as_shown)
  except OSError as e:
    raise DataError(f'{path} cannot be read ({e.strerror}); expected an image file.'
                    ) from e
  except DataError as e:
    raise DataError(f'{path}: {e}') from e


def _decode(tf: ModuleType, prepare: host_ops.Prepare, image: decode.Portable,
            path: str) -> np.ndarray:
  try:
    return prepare(image.data, np.zeros(2, np.int64), image.orientation).numpy()
  except tf.errors.OpError as e:
    raise DataError(
        f'{path} is cut off, damaged, or smaller than the crop '
        f'({host_ops.reason(e)}); expected an intact image: replace it.') from e
