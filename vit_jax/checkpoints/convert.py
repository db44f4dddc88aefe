"""From a checkpoint of one code base to one of another, verified."""

import contextlib
import ctypes
import dataclasses
import json
import sys
import time

from etils import epath

from vit_jax.checkpoints import (
  detect,
  hf_names,
  load,
  names,
  npz,
  opening,
  orbax_model,
  safetensors_file,
  timm_names,
  verify,
)
from vit_jax.checkpoints.worlds import FORMATS, WORLDS
from vit_jax.config.sections import ModelSection
from vit_jax.runtime import atomic
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error
from vit_jax.training.progress import duration

# Smaller files are written before a line could be read.
_LARGE = 100_000_000


def convert(src, dst, to: str = '', *, verification: bool = True, stream=None,
            **settings) -> list[str]:
  """Writes the checkpoint `src` as `dst`; returns lines that say what was done.

  Args:
    src: see `load.load`.
    dst: a file for the npz formats, otherwise a folder; must not exist.
    to: key of `FORMATS`; '': npz if `dst` ends in .npz.
    verification: run both on the same images before `dst` appears.
    stream: where a progress line goes, for large files and if it is a terminal.
    **settings: see `load.fitted`; they change the model or say what `src` can't.

  Raises:
    UserError: if `src` can't be read, the format can't hold the model, or `dst`
      can't be written. There is no output then.
  """
  to = _format(to, str(dst))
  dst = epath.Path(dst)
  atomic.check_free(dst)
  _return_freed_memory()
  world = WORLDS[FORMATS[to]]
  with contextlib.ExitStack() as stack:
    model, grid, weights, report = stack.enter_context(load.fitted(src, **settings))
    theirs = names.to_theirs(
        world.write(model, opening.shapes_of(model, grid)), weights)
    temporary = stack.enter_context(atomic.new(dst))
    progress = _Progress(sum(w.nbytes for w in theirs.values()), stream or sys.stderr)
    # What is read meanwhile has its own errors.
    with unreachable_is_an_error(dst, verb='write'):
      _WRITERS[to](temporary, model, grid, theirs, progress.add)
    progress.end()
    lines = [f'Wrote {dst}: {world.title}, {detect.describe(model)}, {len(theirs)} '
             f'arrays, {progress.total:,} bytes.', *_changes(report)]
    if verification:
      lines.append(str(verify.compare(src, temporary, grid, settings)))
  return lines


def listing(src, **settings) -> str:
  """What `src` holds, and the model that was recognised in it."""
  stored = opening.list_stored(src)
  width = max(map(len, stored), default=0)
  lines = [f'{name:{width}}  {str(w.dtype):9} {"x".join(map(str, w.shape)) or "scalar"}'
           for name, w in stored.items()]
  try:
    with load.fitted(src, **settings) as (model, grid, _, report):
      described = _describe(model, grid, report)
  except UserError as e:
    described = [f'No model recognised: {e}']
  total = sum(w.nbytes for w in stored.values())
  return '\n'.join(
      [*lines, f'{len(stored)} arrays, {total:,} bytes', *described])


def _return_freed_memory():
  # Having freed a few large blocks, glibc takes later ones from a heap that it can't
  # give back in part: peaks of 1.64 instead of 1.38 times an L/16 file.
  with contextlib.suppress(OSError, AttributeError):
    m_mmap_threshold = -3
    ctypes.CDLL('libc.so.6').mallopt(m_mmap_threshold, 1 << 20)


def _describe(model, grid, report):
  size = 'any'
  if grid:
    size = ' x '.join(map(str, detect.image_size_of(model, grid)))
  lines = [f'Model: {type(model).__name__} {detect.describe(model)}, '
           f'{model.num_classes} classes, images {size}']
  default = dataclasses.asdict(ModelSection()) | {'num_classes': 0}
  options = [
      f'{name}={value!r}' for name, value in model.settings().items()
      if name not in ('dtype', 'param_dtype') and value != default.get(name)]
  return [*lines, '  ' + ', '.join(options), *(f'  {x}' for x in report.ignored)]


def _changes(report):
  return [f'  {title}: {line}' for title, lines in (
      ('resized', report.resized), ('zeros', report.initialised),
      ('not converted', report.ignored)) for line in lines]


def _format(to, dst):
  if not to and dst.endswith('.npz'):
    return 'npz'
  if to not in FORMATS:
    raise UserError(
        f'The format to convert to is {to or "not given"}; expected '
        f'--to={"|".join(FORMATS)}.')
  if to in ('npz', 'big_vision') and not dst.endswith('.npz'):
    raise UserError(f'{dst} is to be one file of format {to}: end its name in .npz.')
  if to not in ('npz', 'big_vision') and dst.endswith(
      ('.npz', '.safetensors', '.bin')):
    raise UserError(f'{dst} is to be a folder of format {to}: give a folder name.')
  return to


def _write_npz(path, model, grid, weights, progress):
  with path.open('wb') as file:
    npz.write(file, weights, progress)


def _write_big_vision(path, model, grid, weights, progress):
  _write_npz(path, model, grid,
             {f'params/{name}': w for name, w in weights.items()}, progress)


def _write_hugging_face(path, model, grid, weights, progress):
  config = hf_names.config(model, grid)
  # What AutoModel takes as the dtype to load them in.
  config['dtype'] = next(iter(weights.values())).dtype.name
  _write_safetensors(path, weights, config, progress)


def _write_timm(path, model, grid, weights, progress):
  config = timm_names.config(model, grid, detect.describe(model))
  _write_safetensors(path, weights, config, progress)


def _write_safetensors(folder, weights, config, progress):
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
  with (folder / 'model.safetensors').open('wb') as file:
    safetensors_file.write(file, weights, progress)


def _write_orbax(path, model, grid, weights, progress):
  path.mkdir()
  orbax_model.write_model(path, model, grid, weights, progress)


_WRITERS = {
    'npz': _write_npz, 'big_vision': _write_big_vision, 'hf': _write_hugging_face,
    'timm': _write_timm, 'orbax': _write_orbax}


class _Progress:
  """One line that is rewritten in place, on a terminal and for large files."""

  def __init__(self, total, stream):
    self.total, self._done = total, 0
    self._stream = stream
    self._shown = total >= _LARGE and stream.isatty()
    self._began = time.monotonic()

  def add(self, nbytes):
    self._done += nbytes
    if self._shown:
      seconds = time.monotonic() - self._began
      left = seconds * (self.total - self._done) / max(self._done, 1)
      print(f'\r{self._done / self.total:4.0%} of {self.total / 1e6:,.0f} MB, '
            f'{duration(left)} left\x1b[K', end='', file=self._stream, flush=True)

  def end(self):
    if self._shown:
      print('\r\x1b[K', end='', file=self._stream, flush=True)
