"""Tiny data sets in the true format of their TFDS builders, and image folders."""

import io
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vit_jax.config.sections import DataSection
from vit_jax.data import ImageReader, tensorflow


def picture(seed: int, h: int = 40, w: int = 56) -> np.ndarray:
  """A smooth RGB image: small files, and pixels that bear interpolation."""
  rng = np.random.default_rng(seed)
  coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
  return np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))


def encode(image: np.ndarray | Image.Image, kind: str = 'JPEG',
           **options: Any) -> bytes:
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def read_image_files(paths: Iterable[pathlib.Path], data: DataSection) -> np.ndarray:
  """(N, h, w, 3), as prediction reads them."""
  reader = ImageReader(data)
  return np.stack([reader.read(path) for path in paths])


def write_tiny(spec: str, data_dir: str | pathlib.Path, sizes: Mapping[str, int],
               make: Callable[[str, int], dict[str, Any]],
               file_format: str = 'tfrecord', shards: int = 1) -> str:
  """Writes examples make(split, i) through the genuine builder of `spec`."""
  tensorflow.load()
  tfds.disable_progress_bar()
  builder: Any = tfds.builder(spec, data_dir=str(data_dir), file_format=file_format)
  def examples(split: str, n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((f'{i:06d}', make(split, i)) for i in range(n))
  builder._split_generators = lambda dl_manager, **kw: {
      split: examples(split, n) for split, n in sizes.items()}
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      compute_stats=tfds.download.ComputeStatsMode.SKIP, num_shards=shards))
  return str(data_dir)


def cifar_example(split: str, i: int) -> dict[str, Any]:
  seed = i + (1000 if split == 'test' else 0)
  return {'id': f'{split}{i}', 'image': picture(seed, 32, 32), 'label': i % 10}


def imagenet_example(split: str, i: int) -> dict[str, Any]:
  del split
  return {'file_name': f'{i}.jpg', 'image': picture(i), 'label': i}


@pytest.fixture(scope='session')
def cifar_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
  return write_tiny('cifar10', tmp_path_factory.mktemp('cifar'),
                    {'train': 50, 'test': 13}, cifar_example, shards=3)


@pytest.fixture(scope='session')
def cifar_arrayrecord_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
  return write_tiny('cifar10', tmp_path_factory.mktemp('cifar_ar'),
                    {'train': 50, 'test': 13}, cifar_example, 'array_record', 3)


@pytest.fixture(scope='session')
def imagenet_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
  """JPEG images, 40x56, which the metadata do not say."""
  return write_tiny('imagenet2012', tmp_path_factory.mktemp('imagenet'),
                    {'train': 24, 'validation': 10}, imagenet_example)


@pytest.fixture(scope='session')
def imagenet_shards(tmp_path_factory: pytest.TempPathFactory) -> str:
  """As `imagenet_dir`, three files a split."""
  return write_tiny('imagenet2012', tmp_path_factory.mktemp('imagenet3'),
                    {'train': 24, 'validation': 10}, imagenet_example, shards=3)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  """12 intact JPEG files of two classes in `train`, 5 in `test`."""
  for split, count in (('train', 12), ('test', 5)):
    for i in range(count):
      path = tmp_path / split / ('cat', 'dog')[i % 2] / f'{i:02d}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encode(picture(i)))
  return tmp_path
