"""Writes golden_shardings.txt, how every parameter is laid out:

  python tests/parallel/golden_shardings.py

Run it after a deliberate change of `vit_jax/parallel/rules.py` or of a model, read the
diff, and commit both.
"""

import pathlib
import re
import sys

import jax

if __name__ == '__main__':
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from vit_jax.models import layout, variants
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel import rules

FILE = pathlib.Path(__file__).with_name('golden_shardings.txt')
# Variant -> fields of the model that are not the variant's.
VARIANTS = {
    'B/16': {}, 'L/16': {'scan': True}, 'H/14': {'pool': 'map'}, 'R50+B/16': {},
    'Mixer-B/16': {}, 'R50x1': {}}
# Name -> (data, fsdp).
LAYOUTS = {'data': (256, 1), 'hsdp': (16, 16), 'fsdp': (1, 64)}
_HEADER = '''\
How every parameter of some models is laid out: its shape in three layouts of the mesh,
data (256 x 1), hsdp (16 x 16) and fsdp (1 x 64). 768/16 is a dim of 768 divided over 16
devices. Numbered blocks that are laid out alike are one line, with their number.
Written by golden_shardings.py, which says when.
'''


def text() -> str:
  return '\n'.join([_HEADER, *(_of_variant(v) for v in VARIANTS)])


def _of_variant(variant) -> str:
  model = variants.create(variant, 1000, **VARIANTS[variant])
  params = jax.eval_shape(
      lambda key: layout.init(model, key, (224, 224)), jax.random.key(0))
  rows = {}
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = rules.path_name(path)
    shapes = tuple(_divided(name, x.shape, sizes) for sizes in LAYOUTS.values())
    merged = re.sub(r'(encoderblock_|MixerBlock_|unit)\d+', r'\1*', name)
    rows[merged, shapes] = rows.get((merged, shapes), 0) + 1
  options = ''.join(f', {k}={v}' for k, v in VARIANTS[variant].items())
  lines = [f'{variant}{options}']
  for (name, shapes), count in rows.items():
    lines.append(f'  {name}' + (f' ({count})' if count > 1 else ''))
    lines.append('      ' + '  '.join(
        f'{layout_name} {shape}'
        for layout_name, shape in zip(LAYOUTS, shapes, strict=True)))
  return '\n'.join(lines) + '\n'


def _divided(name, shape, sizes):
  mesh = jax.sharding.AbstractMesh(sizes, mesh_lib.AXES)
  spec = rules.partition_spec(name, shape, mesh)
  axes = (*spec, *[None] * (len(shape) - len(spec)))
  return 'x'.join(f'{n}/{mesh.shape[axis]}' if axis else str(n)
                  for n, axis in zip(shape, axes, strict=True))


if __name__ == '__main__':
  FILE.write_text(text())
  print(FILE)
