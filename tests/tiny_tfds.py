"""Tiny random data sets, written by the genuine TFDS builders in their true format.

Only what generates the examples is replaced, so features, encodings, sharding and
metadata are those of the real data, and neither network nor manual files are needed.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tensorflow_datasets.core.splits import SplitDict, SplitInfo

# Their attributes have no useful types.
F: Any = tfds.features
_HEIGHT, _WIDTH = 40, 56


def value(feature: Any, rng: np.random.Generator) -> Any:
  """A random value: images smooth, classes in range, sequences of 3 to 10 items."""
  if isinstance(feature, F.FeaturesDict):
    return {key: value(inner, rng) for key, inner in feature.items()}
  if isinstance(feature, F.Sequence):
    return [value(feature.feature, rng) for _ in range(rng.integers(3, 11))]
  if isinstance(feature, F.ClassLabel):
    return int(rng.integers(feature.num_classes))
  if isinstance(feature, F.Image):
    return picture(rng, *feature.shape)
  if isinstance(feature, F.BBoxFeature):
    return F.BBox(0.1, 0.1, 0.9, 0.9)
  if isinstance(feature, F.Text):
    return f't{rng.integers(1 << 30)}'
  # Distances of KITTI and CLEVR fall into all of their classes.
  return (rng.random(feature.shape) * 20).astype(feature.np_dtype)


def picture(rng: np.random.Generator, height: int | None = None,
            width: int | None = None, channels: int | None = 3) -> np.ndarray:
  """uint8 (height, width, channels), with few high frequencies."""
  coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
  image = coarse.resize((width or _WIDTH, height or _HEIGHT), Image.Resampling.BICUBIC)
  return np.asarray(image)[..., :channels or 3]


def example(builder: tfds.core.DatasetBuilder, split: str, i: int,
            seed: int = 0) -> dict[str, Any]:
  """Example `i` of a split, as the builder of the real data would generate it."""
  # zlib and hash differ between runs or platforms; letters do not.
  rng = np.random.default_rng([seed, i, *split.encode()])
  made = value(builder.info.features, rng)
  if builder.name == 'dsprites':
    made['image'] = made['image'] // 128  # The real pixels are 0 and 1.
  return made


def write(spec: str, data_dir: str | pathlib.Path, sizes: Mapping[str, int],
          file_format: str = 'tfrecord', shards: int = 1) -> str:
  """Writes {split: number of examples} of `spec` under `data_dir`, which it returns.

  `spec` may ask for a version, such as 'kitti:3.*.*'; what is written is the version
  that the builder has code for.
  """
  tfds.disable_progress_bar()
  builder: Any = tfds.builder(spec, data_dir=str(data_dir), file_format=file_format)
  builder._split_generators = lambda dl_manager, **kw: {
      split: ((f'{i:06d}', example(builder, split, i)) for i in range(count))
      for split, count in sizes.items()}
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      compute_stats=tfds.download.ComputeStatsMode.SKIP, num_shards=shards))
  return str(data_dir)


def write_metadata(spec: str, data_dir: str | pathlib.Path,
                   sizes: Mapping[str, int]) -> None:
  """Metadata alone, which say that the splits have these sizes."""
  builder = tfds.builder(spec, data_dir=str(data_dir))
  template = tfds.core.ShardedFileTemplate(
      dataset_name=builder.name, data_dir=epath.Path(builder.data_dir),
      filetype_suffix='tfrecord')
  builder.info.set_splits(SplitDict([
      SplitInfo(name=split, shard_lengths=[count], num_bytes=0,
                filename_template=template)
      for split, count in sizes.items()]))
  pathlib.Path(builder.data_dir).mkdir(parents=True)
  builder.info.write_to_directory(builder.data_dir)
