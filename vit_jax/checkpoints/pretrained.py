"""Fitting the parameters of one model to another that is about to be fine-tuned.

The head is kept where it fits and starts anew otherwise, the layer before it
(pre_logits) and the mask embedding are dropped if the new model has none, and positions
are resized.
Everything else must fit exactly. A report says what happened to every parameter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.checkpoints import positions
from vit_jax.checkpoints.code_bases import links, table
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.open_checkpoint import Checkpoint, shapes_of
from vit_jax.checkpoints.positions import POSITIONS, Grid
from vit_jax.checkpoints.weights import Weight
from vit_jax.config.sections import InitSection
from vit_jax.config.settings import check_value, declared
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass
class Report:
  """What became of the parameters, one line each; `loaded` holds names."""
  path: str
  loaded: list[str]
  resized: list[str]
  initialised: list[str]
  ignored: list[str]
  differs: list[str]
  # Of the adapted model: without names of classes if its head starts anew.
  interface: Interface = Interface()
  warnings: list[str] = dataclasses.field(default_factory=list)

  def __str__(self) -> str:
    lines = [f'Parameters from {self.path}: {len(self.loaded)} arrays loaded.']
    for title, entries in (
        ('resized', self.resized), ('initialised anew', self.initialised),
        ('ignored', self.ignored), ('computed differently', self.differs)):
      lines += [f'  {title}: {entry}' for entry in entries]
    return '\n'.join(lines)


def adapt(
    checkpoint: Checkpoint, model: Model, grid: Grid | None, *, head: str = 'auto',
    pre_logits: str = 'drop', position_resize: str = 'original',
    class_names: Sequence[str] = (),
) -> tuple[dict[str, Weight], Report]:
  """The weights that `model` takes from a checkpoint, by our unrolled names.

  Args:
    checkpoint: an open one.
    model: what the weights are for.
    grid: (h, w) of its patches.
    head: 'keep' it (an error if it doesn't fit), 'reset' it, or 'auto': keep if it
      fits.
    pre_logits: 'drop' them if the model has none, or 'keep': an error then.
    position_resize: key of `table.POSITION_RESIZES`, or 'auto': that of the code base
      that the checkpoint comes from.
    class_names: of the model's head; (): unknown. With 'auto', a head of classes with
      other names does not fit.

  Raises:
    UserError: if the checkpoint belongs to another model.
  """
  for name, value in (('head', head), ('pre_logits', pre_logits)):
    check_value(declared(InitSection)[name], f'init.{name}', value)
  if position_resize == 'auto':
    position_resize = checkpoint.code_base.position_resize
  table.position_resize(position_resize)  # also where nothing is resized
  weights = dict(checkpoint.weights)
  expected = shapes_of(model, grid)
  report = Report(
      checkpoint.path, [], [], [], list(checkpoint.detected.notes),
      [f'{option} is {there!r} in the checkpoint, {here!r} here'
       for option, (there, here) in computed_differently(
           checkpoint.model, model).items()])
  _mask_embedding(weights, expected, report)
  _pre_logits(checkpoint, weights, expected, pre_logits, report)
  _head(checkpoint, weights, expected, head, class_names, report)
  _positions(checkpoint, weights, expected, model, grid, position_resize, report)
  absent = {line.split(' ')[0] for line in report.initialised}
  wrong = [
      f'  {name}: {_shape(weights, name)} in the checkpoint, '
      f'{expected.get(name, "absent")} in the model'
      for name in sorted(weights.keys() | expected.keys())
      if name not in absent and _shape(weights, name) != expected.get(name, 'absent')]
  if wrong:
    raise UserError(
        f'The checkpoint {checkpoint.path} belongs to another model than the '
        f'configured one:\n{links.shorten(wrong)}\nUse the settings it was made with '
        '(`vit_jax convert FILE --list` prints them) for config.model and '
        'config.data.image_size.')
  report.loaded = list(weights)
  report.interface = _interface(checkpoint, model, 'head/kernel' in weights)
  return weights, report


def _interface(checkpoint: Checkpoint, model: Model, same_head: bool) -> Interface:
  found = checkpoint.detected.interface
  if same_head and len(found.class_names) == model.num_classes:
    return found
  return dataclasses.replace(found, class_names=())


def computed_differently(a: Model, b: Model) -> dict[str, tuple[Any, Any]]:
  """{option: its two values} of what two models compute from the same parameters."""
  if type(a) is not type(b):
    return {}
  values = {
      field.name: (getattr(a.options, field.name), getattr(b.options, field.name))
      for field in dataclasses.fields(a.options)
      if declared(type(a.options))[field.name].effect == 'outputs'}
  return {name: pair for name, pair in sorted(values.items()) if pair[0] != pair[1]}


def _mask_embedding(weights: dict[str, Weight], expected: Shapes,
                    report: Report) -> None:
  name = 'mask_embedding'
  if name in weights and name not in expected:
    report.ignored.append(f'{name} {weights.pop(name).shape}: dropped')
  elif name in expected and name not in weights:
    report.initialised.append(f'{name} {expected[name]}')


def _pre_logits(checkpoint: Checkpoint, weights: dict[str, Weight], expected: Shapes,
                choice: str, report: Report) -> None:
  stored, wanted = 'pre_logits/kernel' in weights, 'pre_logits/kernel' in expected
  if stored and not wanted:
    width = weights['pre_logits/kernel'].shape[1]
    if choice == 'keep':
      raise UserError(
          f'{checkpoint.path} has a layer pre_logits of width {width} to keep, and the '
          f'model has none. Set representation_size to {width}, or drop the layer.')
    for name in ('pre_logits/kernel', 'pre_logits/bias'):
      report.ignored.append(f'{name} {weights.pop(name).shape}: dropped')
  elif wanted and not stored:
    report.initialised += [
        f'pre_logits/{x} {expected[f"pre_logits/{x}"]}' for x in ('kernel', 'bias')]


def _head(checkpoint: Checkpoint, weights: dict[str, Weight], expected: Shapes,
          choice: str, class_names: Sequence[str], report: Report) -> None:
  head = ('head/kernel', 'head/bias')
  # Behind another last layer, a head of the right shape would mean nothing.
  same_input = ('pre_logits/kernel' in checkpoint.weights) == (
      'pre_logits/kernel' in expected)
  # One that predicts masked patches knows nothing of classes, whatever its shape.
  same_output = ('mask_embedding' in checkpoint.weights) == (
      'mask_embedding' in expected)
  fits = same_input and same_output and all(
      _shape(weights, name) == expected.get(name) for name in head)
  if choice == 'keep' and 'head/kernel' in expected and not fits:
    raise UserError(
        f'The head to keep is {_shape(weights, "head/kernel")} in {checkpoint.path} '
        f'and {expected["head/kernel"]} in the model'
        f'{"" if same_input else ", behind another layer pre_logits"}'
        f'{"" if same_output else ", and only one of them predicts masked patches"}. '
        'Make the model match, or reset the head.')
  if fits and (renamed := _renamed(checkpoint, class_names)):
    if choice == 'keep':
      report.warnings.append(f'The head of {checkpoint.path} is kept, but {renamed}.')
    elif choice == 'auto':
      fits = False
      report.ignored.append(f'head: {renamed}')
  if fits and choice != 'reset':
    return
  for name in head:
    if name in weights:
      report.ignored.append(f'{name} {weights.pop(name).shape}')
    if name in expected:
      report.initialised.append(f'{name} {expected[name]}')


def _renamed(checkpoint: Checkpoint, here: Sequence[str]) -> str:
  """How the classes of the checkpoint's head differ from ours, '' if they don't."""
  there = checkpoint.detected.interface.class_names
  if not there or not here or tuple(there) == tuple(here):
    return ''
  i = next((i for i, pair in enumerate(zip(there, here, strict=False))
            if pair[0] != pair[1]), 0)
  return f'its class {i} is {there[i]!r} there and {here[i]!r} here'


def _positions(checkpoint: Checkpoint, weights: dict[str, Weight], expected: Shapes,
               model: Model, grid: Grid | None, method: str, report: Report) -> None:
  if POSITIONS not in weights or POSITIONS not in expected:
    return  # a mismatch is found with all others
  if {'cls', 'register_tokens'} & (weights.keys() ^ expected.keys()):
    return
  file_model, old = checkpoint.model, checkpoint.grid
  if file_model.options.position_prefix != model.options.position_prefix:
    change_prefix(weights, file_model, model, report)
  if old == grid:
    return
  assert old and grid, 'learned positions have a grid'
  weight, matrix = weights[POSITIONS], table.position_resize(method)
  prefix = weight.shape[1] - old[0] * old[1]
  shape = (1, prefix + grid[0] * grid[1], weight.shape[2])
  weights[POSITIONS] = Weight(
      shape, weight.dtype,
      lambda: positions.resize(weight.read(), old, grid, matrix))
  report.resized.append(
      f'{POSITIONS} from {old[0]} x {old[1]} to {grid[0]} x {grid[1]} patches, by the '
      f"method '{method}'")


def change_prefix(weights: dict[str, Weight], old: Model, new: Model,
                  report: Report) -> None:
  """Gives or takes the position entries of class and register tokens.

  What an entry adds to its token can as well be part of the token itself.
  """
  tokens = {name: weights[name].shape[1] for name in ('cls', 'register_tokens')
            if name in weights}
  kept = {'none': (), 'class': ('cls',), 'all': ('cls', 'register_tokens')}
  before, after = (kept[model.options.position_prefix] for model in (old, new))
  stored, entries, at = weights[POSITIONS], {}, 0
  for name, count in tokens.items():
    if name in before:
      entries[name] = slice(at, at + count)
      at += count
  for name in tokens:
    if name in before and name not in after:
      token = weights[name]
      weights[name] = dataclasses.replace(
          token, read=lambda token=token, part=entries[name]: (
              token.read() + stored.read()[:, part]))
      report.resized.append(f'{name}: its position entry is added to it')

  def read() -> np.ndarray:
    array = stored.read()
    D = array.shape[-1]
    parts = [
        array[:, entries[name]] if name in entries
        else np.zeros((1, count, D), array.dtype)
        for name, count in tokens.items() if name in after]
    return np.concatenate([*parts, array[:, at:]], axis=1)
  extra = sum(count for name, count in tokens.items() if name in after)
  weights[POSITIONS] = Weight(
      (1, stored.shape[1] - at + extra, stored.shape[2]), stored.dtype, read)


def _shape(weights: Mapping[str, Weight], name: str) -> tuple[int, ...] | str:
  return weights[name].shape if name in weights else 'absent'
