"""EXIF orientation and transparency: what a viewer shows, whatever decodes it."""

import dataclasses
import io

import numpy as np
import pytest
from image_data import encode, picture, read_image_files
from PIL import ExifTags, Image, ImageOps

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import open_input, tensorflow
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.host import ops as host_ops

ORIENTATIONS = range(1, 9)


def oriented(kind, orientation, **options):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  return encode(picture(0), kind, exif=exif.tobytes(), **options)


def transparent(kind='PNG'):
  """Another picture's colours are hidden where nothing is to be seen."""
  rgba = np.dstack([picture(1), np.full((40, 56), 255, np.uint8)])
  rgba[:, 20:, 3] = 0
  options = {'lossless': True, 'exact': True} if kind == 'WEBP' else {}
  return rgba, encode(Image.fromarray(rgba), kind, **options)


def in_graph(data, as_shown):
  tf = tensorflow.load()
  image = decode.portable(data, as_shown=as_shown)
  return decode.in_graph(tf, tf.constant(image.data), image.orientation).numpy()


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'JPEG'])
def test_orientation(kind):
  for orientation in ORIENTATIONS:
    options = {'lossless': True} if kind == 'WEBP' else {}
    data = oriented(kind, orientation, **options)
    with Image.open(io.BytesIO(data)) as image:
      # Pillow's JPEG pixels are one level off, so it turns those of TensorFlow.
      stored = in_graph(data, False) if kind == 'JPEG' else picture(0)
      exif, turned = image.getexif(), Image.fromarray(stored)
      turned.info['exif'] = exif.tobytes()
      shown = np.asarray(ImageOps.exif_transpose(turned))
    np.testing.assert_array_equal(in_graph(data, True), shown)
    if kind != 'JPEG':
      np.testing.assert_array_equal(decode.with_pillow(data, as_shown=True), shown)
    if kind in ('PNG', 'JPEG'):
      np.testing.assert_array_equal(in_graph(data, False), stored)


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF'])
def test_transparent_is_white(kind):
  rgba, data = transparent(kind)
  for image in (in_graph(data, True), decode.with_pillow(data, as_shown=True)):
    np.testing.assert_array_equal(image[:, :20], rgba[:, :20, :3])
    assert (image[:, 20:] == 255).all()
  np.testing.assert_array_equal(in_graph(data, False), rgba[..., :3])


def test_a_transparent_colour_of_a_palette():
  image = Image.new('P', (8, 8), 3)
  image.putpalette([7] * 768)
  data = encode(image, 'PNG', transparency=3)
  assert (in_graph(data, True) == 255).all() and (in_graph(data, False) == 7).all()


def test_damaged_exif_leaves_the_pixels():
  data = oriented('JPEG', 6).replace(b'Exif\0\0II', b'Exif\0\0XX').replace(
      b'Exif\0\0MM', b'Exif\0\0XX')
  np.testing.assert_array_equal(in_graph(data, True), in_graph(data, False))


@pytest.fixture
def files(tmp_path):
  """The same view, as cameras held in each way would store it."""
  (tmp_path / 'train' / 'cat').mkdir(parents=True)
  paths = []
  for orientation in ORIENTATIONS:
    paths.append(tmp_path / 'train' / 'cat' / f'{orientation}.jpg')
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    view = Image.fromarray(picture(0))
    view.info['exif'] = Image.open(io.BytesIO(oriented('PNG', undo))).info['exif']
    exif = Image.open(io.BytesIO(oriented('PNG', orientation))).info['exif']
    ImageOps.exif_transpose(view).save(
        paths[-1], quality=100, subsampling=0, exif=exif)
  return paths


def test_folders_and_predictions(files, tmp_path):
  data = DataSection('folder', str(tmp_path), image_size=(24, 24), cache='never')
  images = read_image_files(files, data)
  assert abs(images.astype(float) - images[0]).max() <= 12
  reader = open_input(data, 'train', train=False).start()
  seen = next(iter(reader.eval_batches(8, np.arange(8))))['image']
  assert sorted(x.tobytes() for x in seen) == sorted(x.tobytes() for x in images)
  stored = dataclasses.replace(data, as_shown='never')
  assert abs(read_image_files(files, stored).astype(float) - images[0]).max() > 30


@pytest.mark.parametrize('section', [
    PreprocessSection(crop='inception'), PreprocessSection(crop='random', pad=2),
    PreprocessSection(resize_small=30, crop='random')])
def test_crops_are_of_the_turned_image(files, section):
  tf = tensorflow.load()
  prepare = host_ops.make_prepare(tf, section, (24, 24))
  for seed in ((0, 1), (5, 2)):
    crops = [prepare(image.data, np.array(seed), image.orientation).numpy()
             for image in (decode.portable(path.read_bytes(), as_shown=True)
                           for path in files)]
    assert abs(np.array(crops, float) - crops[0]).max() <= 12
