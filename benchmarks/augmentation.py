"""What RandAugment costs on the host, as a Markdown table.

    python benchmarks/augmentation.py [--images=200] [--rounds=5] [--size=224]

CPU time of all threads per image, divided by that of decoding and cropping the same
JPEG files in the same round; the median over the rounds, and the range. The files are
500x375, made of scikit-learn's two photographs; decoding goes through the same ops as
training. Times of colour jitter, erasing, MixUp and CutMix are the accelerator's and
not in it.
"""

import argparse
import io
import os
import pathlib
import statistics
import sys
import time
from types import ModuleType
from typing import Any

os.environ['JAX_PLATFORMS'] = 'cpu'
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

from vit_jax.config.sections import PreprocessSection  # noqa: E402
from vit_jax.data import tensorflow  # noqa: E402
from vit_jax.preprocessing.host import ops as host_ops  # noqa: E402
from vit_jax.preprocessing.host import randaugment  # noqa: E402

CROP = PreprocessSection(crop='inception')
_BATCH = 8


def main(args: argparse.Namespace) -> None:
  tf = tensorflow.load()
  encoded = jpegs(args.images)
  pipelines = {name: pipeline(tf, encoded, function)
               for name, function in functions(tf, args.size).items()}
  base = next(iter(pipelines))
  costs = {name: [] for name in pipelines}
  for datasets in pipelines.values():
    cpu_seconds(datasets)  # Starts threads.
  seconds = {}
  for _ in range(args.rounds):
    seconds = {name: cpu_seconds(datasets) for name, datasets in pipelines.items()}
    for name in pipelines:
      costs[name].append(seconds[name] / seconds[base])
  milliseconds = 1000 * seconds[base] / (args.images - _BATCH)
  print(f'{args.images} images to {args.size}x{args.size}, {args.rounds} rounds; '
        f'{base} took {milliseconds:.2f} ms of CPU per image in the last.\n')
  print('| after reading, per image | x CPU | range |')
  print('|---|---|---|')
  for name, ratios in costs.items():
    print(f'| {name} | {statistics.median(ratios):.2f} | '
          f'{min(ratios):.2f} to {max(ratios):.2f} |')


def functions(tf: ModuleType, side: int) -> dict[str, host_ops.Prepare]:
  """Name -> `(bytes, seed) -> image`; the first is what the others are compared to."""
  size = (side, side)
  crop = host_ops.make_prepare(tf, CROP, size)
  found = {'decode and crop': crop}
  for layers, magnitude in ((1, 10), (2, 10), (2, 15), (2, 20)):
    found[f'and RandAugment ({layers}, {magnitude})'] = host_ops.make_prepare(
        tf, PreprocessSection(
            crop='inception', flip=True, randaugment_layers=layers,
            randaugment_magnitude=magnitude), size)
  found['and keras.layers.RandAugment of 2'] = keras_randaugment(tf, crop)
  for name, operation in randaugment.operations(tf, 10, size).items():
    found[f'and {name} (10)'] = lambda data, seed, f=operation: f(
        crop(data, seed), tf.constant(1.), tf.random.stateless_uniform((2,), seed))
  return found


def keras_randaugment(tf: ModuleType, crop: host_ops.Prepare) -> host_ops.Prepare:
  layer = tf.keras.layers.RandAugment(num_ops=2, factor=0.5, seed=0)
  return lambda data, seed: layer(tf.cast(crop(data, seed), tf.float32))


def jpegs(count: int) -> list[bytes]:
  """Files whose contents differ: random windows of two photographs."""
  rng = np.random.default_rng(0)
  photographs = [Image.fromarray(x) for x in load_sample_images().images]  # 427x640.
  files = []
  for i in range(count):
    photograph = photographs[i % 2]
    width = int(rng.integers(400, 569))
    height = width * 3 // 4
    left = int(rng.integers(photograph.width - width + 1))
    top = int(rng.integers(photograph.height - height + 1))
    buffer = io.BytesIO()
    photograph.crop((left, top, left + width, top + height)).resize(
        (500, 375), Image.Resampling.BICUBIC).save(buffer, 'JPEG', quality=90)
    files.append(buffer.getvalue())
  return files


def pipeline(tf: ModuleType, encoded: list[bytes], function: host_ops.Prepare
             ) -> tuple[Any, Any]:
  """(all images, the first batch of them) as datasets."""
  seeds = np.stack([np.zeros(len(encoded)), np.arange(len(encoded))], 1)
  dataset = tf.data.Dataset.from_tensor_slices((encoded, seeds.astype(np.int64)))
  # One image at a time: nothing that goes on in the background to be counted twice.
  dataset = dataset.map(function).batch(_BATCH)
  return dataset, dataset.take(1)


def cpu_seconds(datasets: tuple[Any, Any]) -> float:
  """Of all images but the first batch, which stands for starting an iterator."""
  def spent(dataset: Any) -> float:
    began = time.process_time()
    for _ in dataset:
      pass
    return time.process_time() - began
  everything, first = datasets
  return spent(everything) - spent(first)


if __name__ == '__main__':
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--images', type=int, default=200)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--size', type=int, default=224)
  main(parser.parse_args())
