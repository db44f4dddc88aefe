"""From a checkpoint of one code base to one of another, verified."""

import contextlib
import dataclasses
import sys
import time
from typing import Any, TextIO

from etils import epath

from vit_jax.checkpoints import load, open_checkpoint, verify
from vit_jax.checkpoints.code_bases import links, pixels
from vit_jax.checkpoints.code_bases.code_base import CodeBase
from vit_jax.checkpoints.code_bases.recognition import size_name
from vit_jax.checkpoints.code_bases.table import FORMATS
from vit_jax.checkpoints.positions import Grid, image_size_of
from vit_jax.checkpoints.pretrained import Report
from vit_jax.config.sections import ModelSection
from vit_jax.models.model import Model
from vit_jax.models.vit import ViT
from vit_jax.runtime import atomic, host_memory
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error
from vit_jax.runtime.live_line import LiveLine
from vit_jax.training.progress import duration

_FOLDED = ('pixel statistics: they are part of the first layer now, as the format has '
           'no place for them')
# Smaller files are written before a line could be read.
_LARGE = 100_000_000


def convert(src: epath.PathLike, dst: epath.PathLike, to: str = '', *,
            verification: bool = True, stream: TextIO | None = None,
            **settings: Any) -> list[str]:
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
  code_base = _code_base(to, str(dst))
  dst = epath.Path(dst)
  atomic.check_free(dst)
  host_memory.return_freed()
  with contextlib.ExitStack() as stack:
    model, grid, weights, report = stack.enter_context(load.fitted(src, **settings))
    plain = pixels.are_plain(model)
    if not code_base.holds_pixels:
      model, weights = pixels.folded(model, weights)
      if not plain:
        report.resized.append(_FOLDED)
    theirs = links.to_theirs(
        code_base.links_to_write(model, open_checkpoint.shapes_of(model, grid)),
        weights)
    temporary = stack.enter_context(atomic.new(dst))
    progress = _Progress(sum(w.nbytes for w in theirs.values()), stream or sys.stderr)
    # What is read meanwhile has its own errors.
    with unreachable_is_an_error(dst, verb='write'):
      missing = code_base.write(
          temporary, model, grid, report.interface, theirs, progress.add)
    progress.end()
    lines = [f'Wrote {dst}: {code_base.title}, {_name(model)}, {len(theirs)} '
             f'arrays, {progress.total:,} bytes.', *_changes(report),
             *(f'  without: {what}; {code_base.title} has no place for it'
               for what in missing)]
    if verification:
      lines.append(str(verify.compare(
          src, temporary, grid, settings, folded=not code_base.holds_pixels)))
  return lines


def listing(src: epath.PathLike, **settings: Any) -> str:
  """What `src` holds, and the model that was recognised in it."""
  stored = open_checkpoint.list_stored(src)
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


def _code_base(to: str, dst: str) -> CodeBase:
  """Whose format --to names, for a destination that fits it."""
  if not to and dst.endswith('.npz'):
    to = 'npz'
  if to not in FORMATS:
    raise UserError(
        f'The format to convert to is {to or "not given"}; expected '
        f'--to={"|".join(FORMATS)}.')
  suffix = FORMATS[to].suffix
  if suffix and not dst.endswith(suffix):
    raise UserError(
        f'{dst} is to be one file of format {to}: end its name in {suffix}.')
  if not suffix and dst.endswith(('.npz', '.safetensors', '.bin')):
    raise UserError(f'{dst} is to be a folder of format {to}: give a folder name.')
  return FORMATS[to]


def _describe(model: Model, grid: Grid | None, report: Report) -> list[str]:
  size = ' x '.join(map(str, image_size_of(model, grid))) if grid else 'any'
  defaults = dataclasses.asdict(ModelSection()) | {
      'num_classes': 0, 'version': 2, **pixels.PLAIN}
  options = [
      f'{name}={value!r}' for name, value in model.settings().items()
      if name not in ('dtype', 'param_dtype') and value != defaults.get(name)]
  return [
      f'Model: {type(model).__name__} {_name(model)}, {model.num_classes} classes, '
      f'images {size}',
      '  ' + ', '.join(options), *(f'  {x}' for x in report.ignored)]


def _name(model: Model) -> str:
  """'B/16' if the sizes are published ones, else the sizes."""
  if not isinstance(model, ViT):
    return type(model).__name__
  options, (rows, columns) = model.options, model.strides
  patch = str(rows) if rows == columns else f'{rows}x{columns}'
  if name := size_name(model):
    return f'{name}/{patch}'
  return (f'width {options.width}, depth {options.depth}, MLP {options.mlp_dim}, '
          f'{options.num_heads} heads, {patch} pixels a patch')


def _changes(report: Report) -> list[str]:
  return [f'  {title}: {line}' for title, lines in (
      ('resized', report.resized), ('zeros', report.initialised),
      ('not converted', report.ignored)) for line in lines]


class _Progress:
  """One line that is rewritten in place, on a terminal and for large files."""

  def __init__(self, total: int, stream: TextIO) -> None:
    self.total, self._done = total, 0
    self._line = LiveLine(stream, shown=total >= _LARGE)
    self._began = time.monotonic()

  def add(self, nbytes: int) -> None:
    self._done += nbytes
    seconds = time.monotonic() - self._began
    left = seconds * (self.total - self._done) / max(self._done, 1)
    self._line.draw(f'{self._done / max(self.total, 1):4.0%} of '
                    f'{self.total / 1e6:,.0f} MB, {duration(left)} left')

  def end(self) -> None:
    self._line.erase()
