"""Memory and time of converting a checkpoint of the size of L/16 (1.2 GB).

    python benchmarks/convert_memory.py [FOLDER]

Writes random weights under FOLDER (default: a temporary one), converts them in a
process of its own per format, and deletes everything. Memory is the peak of that
process as a multiple of the file; time is relative to reading the file and writing
it again plainly, both including the flush to the disk.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

# Runs in the measured process: convert, then say time and peak memory.
_CONVERT = '''
import json, resource, sys, time
from vit_jax.checkpoints.convert import convert
imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
began = time.monotonic()
convert(sys.argv[1], sys.argv[2], sys.argv[3], verification=sys.argv[4] == 'verify')
print(json.dumps({
    'seconds': time.monotonic() - began, 'imported': imported,
    'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
'''


def main(folder: pathlib.Path) -> None:
  source = folder / 'L_16.npz'
  _write_random(source)
  size = source.stat().st_size
  plain = _plain_copy(source, folder / 'copy')
  print(f'{size / 1e6:,.0f} MB; plain read and write {plain:.1f} s')
  print(f'{"from":12} {"to":12} {"verify":7} {"peak / file":>11} {"of it imports":>13} '
        f'{"seconds":>8} {"/ plain":>8}')
  for to, verify in (
      ('npz', False), ('hf', False), ('timm', False), ('big_vision', False),
      ('orbax', False), ('timm', True)):
    target = folder / ('out.npz' if to in ('npz', 'big_vision') else 'out')
    _report(source, target, to, verify, size, plain)
    if to == 'timm' and not verify:
      _report(target, folder / 'back.npz', 'npz', False, size, plain)
      (folder / 'back.npz').unlink()
    shutil.rmtree(target) if target.is_dir() else target.unlink()


def _report(source: pathlib.Path, target: pathlib.Path, to: str, verify: bool,
            size: int, plain: float) -> None:
  run = subprocess.run(
      [sys.executable, '-c', _CONVERT, str(source), str(target), to,
       'verify' if verify else ''], check=True, capture_output=True, text=True,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'})
  figures = json.loads(run.stdout.splitlines()[-1])
  print(f'{source.name:12} {to:12} {"yes" if verify else "no":7} '
        f'{figures["peak"] / size:11.2f} {figures["imported"] / size:13.2f} '
        f'{figures["seconds"]:8.1f} {figures["seconds"] / plain:8.2f}', flush=True)


def _write_random(path: pathlib.Path) -> None:
  import numpy as np

  from vit_jax.checkpoints import npz, open_checkpoint, weights
  from vit_jax.models import variants
  model = variants.create('L/16', 1000)
  rng = np.random.default_rng(0)
  shapes = open_checkpoint.shapes_of(model, (14, 14))
  arrays = {
      name: weights.Weight(
          shape, np.dtype('float32'), lambda shape=shape: rng.standard_normal(
              shape, np.float32) * np.float32(0.02))
      for name, shape in shapes.items()}
  with path.open('wb') as file:
    npz.write(file, arrays)


def _plain_copy(source: pathlib.Path, target: pathlib.Path) -> float:
  began = time.monotonic()
  with source.open('rb') as read, target.open('wb') as write:
    shutil.copyfileobj(read, write, 16 << 20)
    os.fsync(write.fileno())
  seconds = time.monotonic() - began
  target.unlink()
  return seconds


if __name__ == '__main__':
  if len(sys.argv) > 1:
    main(pathlib.Path(sys.argv[1]))
  else:
    with tempfile.TemporaryDirectory() as temporary:
      main(pathlib.Path(temporary))
