"""Exports in the hands of transformers and timm: their probabilities against ours.

  python benchmarks/export_parity.py export FOLDER     # with vit_jax
  python benchmarks/export_parity.py compare FOLDER    # with torch, transformers, timm

The first writes small random models, each with one way of preparing images, in both
formats, and our probabilities of two photos; the second prints a table. The photos are
PNG files: TensorFlow and Pillow decode JPEG differently, by up to a few levels.
"""

import json
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
from etils import epath

PHOTOS = ('china', 'flower')  # 427 x 640, of scikit-learn
# Name -> settings of `data.eval`, (height, width).
CASES = {
    'plain': ({'antialias': True}, (64, 64)),
    'plain, bicubic': ({'antialias': True, 'method': 'bicubic'}, (64, 64)),
    'plain, 64 x 48': ({'antialias': True}, (64, 48)),
    'shorter side, centre': (
        {'antialias': True, 'resize_small': 73, 'crop': 'central'}, (64, 64)),
    'both sides, centre': (
        {'antialias': True, 'resize': (73, 73), 'crop': 'central'}, (64, 64)),
    'plain, not antialiased': ({}, (64, 64)),
}


def export(folder: pathlib.Path) -> None:
  import jax
  from PIL import Image
  from sklearn import datasets

  from vit_jax.checkpoints import convert, orbax_arrays
  from vit_jax.checkpoints.code_bases.interface import Interface
  from vit_jax.checkpoints.code_bases.table import FORMATS
  from vit_jax.checkpoints.weights import of_array
  from vit_jax.config.sections import DataSection, PreprocessSection
  from vit_jax.data import read_image_files
  from vit_jax.models import layout, variants
  from vit_jax.preprocessing.device import augment
  folder.mkdir()
  photos = [folder / f'{name}.png' for name in PHOTOS]
  for photo in photos:
    Image.fromarray(datasets.load_sample_image(f'{photo.stem}.jpg')).save(photo)
  rng = np.random.default_rng(0)
  for i, (settings, size) in enumerate(CASES.values()):
    model = variants.create(
        '', 3, patch_size=16, width=32, depth=2, mlp_dim=64, num_heads=2, gelu='exact',
        pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    flat = {name: np.asarray(x) + rng.normal(0, 0.05, x.shape).astype(np.float32)
            for name, x in orbax_arrays.flatten(
                layout.init(model, jax.random.key(0), size)).items()}
    data = DataSection(image_size=size, eval=PreprocessSection(**settings))
    case = folder / str(i)
    case.mkdir()
    FORMATS['orbax'].write(
        epath.Path(case / 'ours'), model, (size[0] // 16, size[1] // 16),
        Interface(('cat', 'dog', 'emu'), data.eval),
        {name: of_array(x) for name, x in flat.items()}, lambda nbytes: None)
    lines = {to: convert.convert(case / 'ours', case / to, to, verification=False)[1:]
             for to in ('hf', 'timm')}
    images, rest = read_image_files(photos, data)
    images = augment.eval_images(
        jnp.asarray(images), rest, data.image_size, data.value_range)
    logits, _ = model.apply({'params': orbax_arrays.nest(flat)}, images)
    (case / 'ours.json').write_text(json.dumps({
        'lines': lines, 'probabilities': np.asarray(jax.nn.softmax(logits)).tolist()}))


def compare(folder: pathlib.Path) -> None:
  import reference_pixels  # noqa: F401
  import timm
  import torch
  import transformers
  from PIL import Image
  from timm.data import create_transform, resolve_data_config
  photos = [Image.open(folder / f'{name}.png') for name in PHOTOS]
  print('| data.eval | transformers | timm | said to be missing |\n|---|---|---|---|')
  for i, name in enumerate(CASES):
    case = folder / str(i)
    told = json.loads((case / 'ours.json').read_text())
    pipe = transformers.pipeline('image-classification', model=str(case / 'hf'))
    found = [{x['label']: x['score'] for x in pipe(photo, top_k=None)}
             for photo in photos]
    theirs = [[[x[name] for name in ('cat', 'dog', 'emu')] for x in found]]
    model = timm.create_model(f'local-dir:{case / "timm"}', pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    batch = torch.stack([transform(photo) for photo in photos])
    theirs.append(model(batch).softmax(-1).detach().tolist())
    differences = [f'{np.abs(np.subtract(x, told["probabilities"])).max():.1e}'
                   for x in theirs]
    missing = '; '.join(sorted({x.split(';')[0].split(': ', 1)[1]
                                for lines in told['lines'].values() for x in lines}))
    print(f'| {name} | {" | ".join(differences)} | {missing} |')
  print(f'torch {torch.__version__}, transformers {transformers.__version__}, timm '
        f'{timm.__version__}')


if __name__ == '__main__':
  {'export': export, 'compare': compare}[sys.argv[1]](pathlib.Path(sys.argv[2]))
