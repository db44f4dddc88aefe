"""Handwritten digits: 1,797 real 8x8 images that scikit-learn carries with it.

A TFDS data set like any other, except that it can be prepared without a download.
"""

import contextlib
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_DESCRIPTION = (
    'The test part of the UCI "Optical Recognition of Handwritten Digits" data, as '
    'scikit-learn bundles it: 1,797 grey images of 8x8 pixels in 17 levels, '
    'scaled to 0..255.')


class Digits(tfds.core.GeneratorBasedBuilder):
  """Every fifth image is a test image: 1,438 for training, 359 for testing."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=_DESCRIPTION,
        features=tfds.features.FeaturesDict({
            # Position in `sklearn.datasets.load_digits()`.
            'id': tfds.features.Scalar(np.int64),
            'image': tfds.features.Image(shape=(8, 8, 1)),
            'label': tfds.features.ClassLabel(names=[str(n) for n in range(10)]),
        }),
        supervised_keys=('image', 'label'),
        homepage='https://archive.ics.uci.edu/dataset/80')

  def _split_generators(self, dl_manager: tfds.download.DownloadManager
                        ) -> dict[str, Any]:
    del dl_manager  # Nothing to download.
    return {'train': self._generate_examples(test=False),
            'test': self._generate_examples(test=True)}

  def _generate_examples(self, test: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    from sklearn import datasets  # Half a second, paid when preparing only.
    digits: Any = datasets.load_digits()
    levels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    for i, (image, label) in enumerate(zip(levels, digits.target, strict=True)):
      if (i % 5 == 4) == test:
        png = io.BytesIO()
        Image.fromarray(image).save(png, 'PNG')
        png.seek(0)
        yield i, {'id': i, 'image': png, 'label': int(label)}


def builder(data_dir: str | None) -> Digits:
  """The builder, its files prepared if they were not yet."""
  digits = Digits(data_dir=data_dir)
  if digits.info.splits:
    return digits
  _prepare(pathlib.Path(digits.data_dir))
  return Digits(data_dir=data_dir)


def _prepare(final: pathlib.Path) -> None:
  # Many processes may get here at once, on one machine or on a shared file system:
  # each writes its own copy, the first rename wins, and a rename is atomic.
  root = final.parents[1]
  root.mkdir(parents=True, exist_ok=True)
  scratch = tempfile.mkdtemp(prefix='.digits-', dir=root)
  try:
    from vit_jax.data import tensorflow
    tensorflow.load()  # TFDS would import it noisily.
    own = Digits(data_dir=scratch)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
      own.download_and_prepare(download_config=tfds.download.DownloadConfig(
          compute_stats=tfds.download.ComputeStatsMode.SKIP))
    final.parent.mkdir(exist_ok=True)
    try:
      os.rename(own.data_dir, final)
    except OSError:
      if not (final / 'dataset_info.json').exists():
        raise
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
