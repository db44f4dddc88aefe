"""What reading and decoding training images costs, as a Markdown table.

    python benchmarks/input.py [--images=2048] [--rounds=3] [--latency=0.05]
                               [--big_vision=CLONE] [--folder=DIR]

All pipelines read the same JPEG files (about 106 kB, made of scikit-learn's two
photographs and noise), crop and resize them to 224x224, and give batches of 128. Each
runs in a process of its own, in turn in every round; CPU is that of
all its threads, after 8 batches for starting up. Ratios are formed within a round, then
their median and range.

- disk: the library, from local files, fully shuffled.
- store: the same from a server of Google's protocol on loopback that answers each
  request after --latency seconds, in runs of neighbours. A set as small as this one has
  hardly a run for each lane, so that runs are cut: its requests and bytes for 1,000
  images are more than those of a large one.
- tf.data: interleaved files, a shuffle buffer, the same fused decoding; uint8.
- tf.data, float32: the same with big_vision's options for threads, and its outputs:
  float32 images and one-hot labels.
- big_vision: its own pipeline, from a clone that --big_vision names.

--folder keeps the data set for the next time.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

_ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests')]
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
os.environ['EPATH_USE_TF'] = '0'

import numpy as np  # noqa: E402

_BATCH, _WARM, _SIZE = 128, 8, 224


def main(args: argparse.Namespace) -> None:
  if args.run:
    print(json.dumps(measured(PIPELINES[args.run](args), args.images)))
    return
  with tempfile.TemporaryDirectory() as scratch:
    folder = args.folder or scratch
    prepare(folder, args.images)
    import object_stores
    with object_stores.running_gcs() as proxy:
      url = upload(folder, proxy)
      compare(args, folder, url, proxy)


def compare(args: argparse.Namespace, folder: str, url: str, proxy: Any) -> None:
  names = [name for name in PIPELINES if name != 'big_vision' or args.big_vision]
  rounds: list[dict[str, dict]] = []
  for _ in range(args.rounds):
    rounds.append({})
    for name in names:
      proxy.reset()
      proxy.latency = args.latency
      place = url if name == 'store' else folder
      found = subprocess.run(
          [sys.executable, __file__, f'--run={name}', f'--data={place}',
           f'--images={args.images}', f'--big_vision={args.big_vision}'],
          check=True, stdout=subprocess.PIPE)
      rounds[-1][name] = json.loads(found.stdout.splitlines()[-1])
      if name == 'store':
        seen = [s for s in proxy.seen if 'alt=media' in s.path]
        read = rounds[-1][name]['read']
        print(f'Object store: {1000 * len(seen) / read:.1f} requests and '
              f'{1000 * sum(s.sent for s in seen) / read / 1e6:.1f} MB for 1,000 '
              'images, with looking for the records and what was read ahead.')
  base = names[0]
  print('\n| pipeline | CPU ms / image | x CPU | range | x images/s |')
  print('|---|---|---|---|---|')
  for name in names:
    cpu = [r[name]['cpu'] / r[base]['cpu'] for r in rounds]
    speed = [r[name]['speed'] / r[base]['speed'] for r in rounds]
    own = statistics.median(r[name]['cpu'] for r in rounds)
    print(f'| {name} | {1000 * own:.3f} | {statistics.median(cpu):.2f} | '
          f'{min(cpu):.2f} to {max(cpu):.2f} | {statistics.median(speed):.2f} |')


def measured(batches: Iterator[Any], images: int) -> dict[str, float]:
  """Seconds of CPU for each image, images a second, and how many were read in all."""
  for _ in range(_WARM):
    next(batches)
  count = max(1, images // _BATCH)
  cpu, wall = time.process_time(), time.monotonic()
  for _ in range(count):
    next(batches)
  cpu, wall = time.process_time() - cpu, time.monotonic() - wall
  return {'cpu': cpu / count / _BATCH, 'speed': count * _BATCH / wall,
          'read': (count + _WARM) * _BATCH}


def ours(args: argparse.Namespace, **options: Any) -> Iterator[Any]:
  from vit_jax.config.sections import DataSection, PreprocessSection
  from vit_jax.data import open_input
  data = DataSection('imagenet2012', args.data, cache='never',
                     train=PreprocessSection(crop='inception', flip=True), **options)
  reader = open_input(data, 'train', train=True).start()
  return reader.train_batches(0, _BATCH, np.arange(_BATCH))


def ours_from_store(args: argparse.Namespace) -> Iterator[Any]:
  # So little that the data do not fit, and a window is small beside them.
  return ours(args, order='runs', cache_limit_gib=0.0, window_gib=0.05)


def tf_data(args: argparse.Namespace, as_big_vision: bool = False) -> Iterator[Any]:
  import tensorflow as tf
  parallel = 100 if as_big_vision else tf.data.AUTOTUNE
  files = sorted(str(p) for p in pathlib.Path(args.data).rglob('*-train.tfrecord-*'))
  options = tf.data.Options()
  if as_big_vision:
    options.threading.private_threadpool_size = 48
    options.threading.max_intra_op_parallelism = 1
    options.experimental_optimization.inject_prefetch = False
  def decode(record: Any) -> Any:
    found = tf.io.parse_single_example(record, {
        'image': tf.io.FixedLenFeature((), tf.string),
        'label': tf.io.FixedLenFeature((), tf.int64)})
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(found['image']), tf.zeros((0, 0, 4)),
        area_range=(0.05, 1.0), min_object_covered=0,
        use_image_if_no_bounding_boxes=True)
    window = tf.concat([begin[:2], size[:2]], 0)
    image = tf.io.decode_and_crop_jpeg(found['image'], window, channels=3)
    image = tf.image.resize(image, (_SIZE, _SIZE))
    image = tf.image.random_flip_left_right(image)
    if as_big_vision:
      return image / 127.5 - 1, tf.one_hot(found['label'], 1000)
    return tf.cast(tf.round(image), tf.uint8), found['label']
  return iter(
      tf.data.Dataset.from_tensor_slices(files).shuffle(len(files))
      .interleave(tf.data.TFRecordDataset, cycle_length=16,
                  num_parallel_calls=tf.data.AUTOTUNE)
      .shuffle(1000).repeat().map(decode, parallel).batch(_BATCH, drop_remainder=True)
      .prefetch(2).with_options(options))


def big_vision(args: argparse.Namespace) -> Iterator[Any]:
  sys.path.insert(0, args.big_vision)
  import ml_collections
  from big_vision import input_pipeline  # pyright: ignore[reportMissingImports]
  config = ml_collections.ConfigDict({
      'data': {'name': 'imagenet2012', 'split': 'train', 'data_dir': args.data},
      'batch_size': _BATCH, 'shuffle_buffer_size': 1000,
      'pp': f'decode_jpeg_and_inception_crop({_SIZE})|flip_lr|value_range(-1, 1)|'
            'onehot(1000, key="label", key_result="labels")|keep("image", "labels")'})
  return iter(input_pipeline.training(config)[0])


PIPELINES = {
    'disk': ours,
    'store': ours_from_store,
    'tf.data': tf_data,
    'tf.data, float32': lambda args: tf_data(args, as_big_vision=True),
    'big_vision': big_vision,
}


def prepare(folder: str, images: int) -> None:
  """Writes ImageNet's format, unless it is there."""
  if list(pathlib.Path(folder).rglob('dataset_info.json')):
    return
  from image_data import write_tiny

  from vit_jax.data import tensorflow
  tensorflow.load()
  def example(split: str, i: int) -> dict[str, Any]:
    return {'file_name': f'{i}.jpg', 'image': jpeg(i), 'label': i % 1000}
  write_tiny('imagenet2012', folder, {'train': images}, example, shards=16)


def jpeg(seed: int) -> Any:
  """A file of about 106 kB, mostly 500x375."""
  import io

  from PIL import Image
  from sklearn.datasets import load_sample_images
  rng = np.random.default_rng(seed)
  width, height = [(500, 375), (500, 375), (500, 333), (375, 500), (800, 600)][
      int(rng.integers(5))]
  mixed, share = np.zeros((height, width, 3)), rng.uniform()
  photos = load_sample_images().images
  for photo, weight in zip(photos, (share, 1 - share), strict=True):
    w, h = (int(side * rng.uniform(0.3, 1)) for side in (640, 427))
    x, y = int(rng.integers(0, 641 - w)), int(rng.integers(0, 428 - h))
    part = Image.fromarray(photo[y:y + h, x:x + w])
    mixed += weight * np.asarray(
        part.resize((width, height), Image.Resampling.BICUBIC))
  mixed += rng.normal(0, rng.uniform(4, 14), (height, width, 1))
  file = io.BytesIO()
  Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(
      file, 'JPEG', quality=90)
  file.seek(0)
  return file


def upload(folder: str, proxy: Any) -> str:
  import object_stores

  from vit_jax.runtime import storage
  os.environ.update(object_stores.gcs_environment(proxy))
  with urllib.request.urlopen(object_stores.new_gcs_bucket(proxy, 'benchmark')):
    pass
  for path in pathlib.Path(folder).rglob('*'):
    if path.is_file():
      storage.write_bytes(f'gs://benchmark/{path.relative_to(folder)}',
                          path.read_bytes())
  return 'gs://benchmark'


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--images', type=int, default=2048)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--latency', type=float, default=0.05)
  parser.add_argument('--big_vision', default='')
  parser.add_argument('--folder', default='')
  parser.add_argument('--run', default='', help=argparse.SUPPRESS)
  parser.add_argument('--data', default='', help=argparse.SUPPRESS)
  main(parser.parse_args())
