"""ImageNet-21k from a download of your own, as a TFDS data set.

TFDS has no builder of it. The command

    python -m vit_jax.data.imagenet21k SOURCE [--classes=FILE] [--data_dir=DIR]

reads the download (see `synset_archives`) and writes DIR/imagenet21k/1.0.0 with the
one split 'full', shuffled by a hash of the file names, of which configurations take
slices such as 'full[51200:]'. Beside it, unreadable_images.txt lists what was left out.

Disk: Fall 2011 has about 14.2 million images, 1.1 to 1.3 TB as tar files; what is
written takes as much again, so 2.5 TB with the source (approximate figures, from
memory of the field; we have not prepared the whole). Memory: about 3 GB. Every image
is decoded once to check it, in threads: about 1 ms of a core each. An interrupted
preparation starts over; remove the folder imagenet21k/incomplete.*_1.0.0 it leaves.

Classes: the published ImageNet-21k heads have 21,843 outputs, the Fall 2011 download
has 21,841 synsets, later ones fewer (Winter 2021: 19,167). Without --classes the
sorted synsets of SOURCE are the classes, which is right for training from scratch. To
use a published head, give the list of its 21,843 ids in the order of its outputs, one
per line: the ids cannot be told from the download or from the checkpoint, and one
missing class shifts all numbers after it. (The PyTorch library timm has that list as
`imagenet21k_goog_synsets.txt`.)
"""

import argparse
import collections
import concurrent.futures as futures
import io
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from vit_jax.data import synset_archives, tensorflow
from vit_jax.data.data_dir import tfds_data_dir
from vit_jax.preprocessing.host import decode
from vit_jax.runtime import files
from vit_jax.runtime.errors import DataError, UserError

NAME, VERSION = 'imagenet21k', '1.0.0'
SKIPPED = 'unreadable_images.txt'


def find(data_dir: str) -> tfds.core.DatasetBuilder | None:
  """The builder of what is prepared under `data_dir`, or None."""
  folder = pathlib.Path(data_dir) / NAME / VERSION
  if not (folder / 'dataset_info.json').exists():
    return None
  return tfds.builder_from_directory(str(folder))


def how_to_prepare(data_dir: str) -> str:
  """See `preparing.how_to_prepare`."""
  return (
      'It is made from your own download of ImageNet-21k, which TFDS does not have '
      '(https://image-net.org, after registration). '
      f'{synset_archives.LAYOUTS} Then run\n'
      f'  python -m vit_jax.data.imagenet21k SOURCE --data_dir={data_dir}\n'
      'which writes about as much as the source has, 1.1 to 1.3 TB for all images. Add '
      '--classes=FILE for the 21,843 classes of the published heads, one WordNet id '
      'per line in the order of their outputs.')


def prepare(source: str, data_dir: str, classes: str = '',
            file_format: str = 'tfrecord', threads: int = 0) -> dict[str, int]:
  """Writes the data set under `data_dir`.

  Args:
    source: the download, see `synset_archives`.
    data_dir: the TFDS data directory.
    classes: file of the classes, one line 'WNID' or 'WNID any words' each; '': the
      sorted synsets of the source.
    file_format: 'tfrecord' or 'array_record'.
    threads: that check images; 0: one per core.

  Returns:
    {'images', 'classes', 'empty_classes', 'unreadable'}, numbers.

  Raises:
    UserError: before anything is written, where source and classes do not fit or the
      disk is too small.
  """
  if find(data_dir):
    raise UserError(f'{data_dir}/{NAME}/{VERSION} is there already; remove it to '
                    'prepare it again, or choose another --data_dir.')
  present = synset_archives.synsets(source)
  names = read_classes(classes) if classes else {wnid: wnid for wnid in present}
  if unknown := sorted(set(present) - set(names)):
    raise UserError(
        f'{source} has {len(unknown)} synsets that {classes} does not list, such as '
        f'{", ".join(unknown[:5])}. Expected a class for each; add them, or remove '
        'their images.')
  _check_disk(source, data_dir)
  reader = _CheckedImages(source, threads or os.cpu_count() or 1)
  with registered.skip_registration():
    builder = _make_builder(reader, list(names), list(names.values()), data_dir,
                            file_format)
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
      compute_stats=tfds.download.ComputeStatsMode.SKIP))
  files.write_text(
      pathlib.Path(builder.data_dir) / SKIPPED, ''.join(
          f'{wnid}\t{file}\t{reason}\n' for wnid, file, reason in reader.skipped))
  return {'images': builder.info.splits['full'].num_examples, 'classes': len(names),
          'empty_classes': len(set(names) - set(present)),
          'unreadable': len(reader.skipped)}


def read_classes(path: str) -> dict[str, str]:
  """{WordNet id: its line} in the order of the file."""
  try:
    lines = pathlib.Path(path).expanduser().read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as e:
    raise UserError(f'--classes={path} cannot be read ({e}); expected a text file '
                    'with one WordNet id per line.') from e
  names = {}
  for number, line in enumerate(lines, 1):
    line = ' '.join(line.split())
    wnid = line.split(' ')[0]
    if not line:
      continue
    if not synset_archives.WNID.fullmatch(wnid) or wnid in names:
      raise UserError(
          f'{path}, line {number}: {line[:60]!r} does not begin with a new WordNet id '
          'such as n01440764; expected every class once, one per line.')
    names[wnid] = line
  if not names:
    raise UserError(f'{path} lists no classes; expected one WordNet id per line.')
  return names


def _check_disk(source: str, data_dir: str) -> None:
  existing = pathlib.Path(data_dir).expanduser().resolve()
  while not existing.exists():
    existing = existing.parent
  needed, free = synset_archives.total_bytes(source), shutil.disk_usage(existing).free
  if needed > free:
    raise UserError(
        f'{data_dir} has {free / 2**30:,.0f} GiB free, expected at least the '
        f'{needed / 2**30:,.0f} GiB of {source}: name a larger disk with --data_dir.')


class _CheckedImages:
  """The images of a download that can be decoded, in its order."""

  def __init__(self, source: str, threads: int) -> None:
    self._source, self._threads = source, threads
    # (synset, file, reason) of what was left out.
    self.skipped: list[tuple[str, str, str]] = []

  def __iter__(self) -> Iterator[tuple[str, str, bytes]]:
    tf = tensorflow.load()
    waiting = collections.deque()
    with futures.ThreadPoolExecutor(self._threads) as pool:
      for wnid, name, data in synset_archives.images(self._source):
        waiting.append((wnid, name, data, pool.submit(_problem, tf, data)))
        if len(waiting) > 8 * self._threads:
          yield from self._finish(*waiting.popleft())
      for item in waiting:
        yield from self._finish(*item)

  def _finish(self, wnid: str, name: str, data: bytes,
              problem: futures.Future[str]) -> Iterator[tuple[str, str, bytes]]:
    if problem.result():
      self.skipped.append((wnid, name, problem.result()))
    else:
      yield wnid, name, data


def _problem(tf: ModuleType, data: bytes | Exception) -> str:
  """Why an image cannot be used, or ''."""
  if isinstance(data, Exception):
    return str(data)
  try:
    decode.in_graph(tf, tf.constant(decode.portable(data).data))
  except DataError as e:
    return str(e)
  except tf.errors.OpError as e:
    return ' '.join(e.message.split())[:200]
  return ''


def _make_builder(images: _CheckedImages, wnids: list[str], class_names: list[str],
                  data_dir: str, file_format: str) -> tfds.core.DatasetBuilder:
  number = {wnid: i for i, wnid in enumerate(wnids)}

  class Imagenet21k(tfds.core.GeneratorBasedBuilder):
    """ImageNet-21k; its classes are known only when it is made."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def _info(self) -> tfds.core.DatasetInfo:
      return tfds.core.DatasetInfo(
          builder=self,
          description='Images of the ImageNet synsets, from a download by hand.',
          features=tfds.features.FeaturesDict({
              'image': tfds.features.Image(encoding_format='jpeg'),
              'label': tfds.features.ClassLabel(names=class_names),
              'file_name': tfds.features.Text(),
          }),
          supervised_keys=('image', 'label'),
          homepage='https://image-net.org')

    def _split_generators(self, dl_manager: tfds.download.DownloadManager
                          ) -> dict[str, Any]:
      del dl_manager  # Nothing to download.
      return {'full': self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
      for wnid, file, data in images:
        yield f'{wnid}/{file}', {
            'image': io.BytesIO(data), 'label': number[wnid], 'file_name': file}

  return Imagenet21k(data_dir=data_dir, file_format=file_format)


def main(argv: list[str] | None = None) -> int:
  """The command; returns its exit status."""
  parser = argparse.ArgumentParser(
      prog='python -m vit_jax.data.imagenet21k',
      description='Prepares ImageNet-21k from a download.')
  parser.add_argument('source', help=synset_archives.LAYOUTS)
  parser.add_argument('--data_dir', default='', help='default: as TFDS has it')
  parser.add_argument('--classes', default='', help='file of WordNet ids, in order')
  parser.add_argument('--file_format', default='tfrecord',
                      choices=('tfrecord', 'array_record'))
  parser.add_argument('--threads', type=int, default=0, help='0: one per core')
  args = parser.parse_args(argv)
  data_dir = tfds_data_dir(args.data_dir)
  try:
    done = prepare(args.source, data_dir, args.classes, args.file_format, args.threads)
  except UserError as e:
    print(f'error: {e}', file=sys.stderr)
    return 1
  folder = os.path.join(data_dir, NAME, VERSION)
  print(f'Wrote {done["images"]:,} images of {done["classes"]:,} classes, '
        f'{done["empty_classes"]:,} of them without images, to {folder}. Left out '
        f'{done["unreadable"]:,} that cannot be decoded, listed in {SKIPPED} there.')
  return 0


if __name__ == '__main__':
  sys.exit(main())
