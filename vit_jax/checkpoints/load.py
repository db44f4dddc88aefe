"""`vit_jax.load`: a model and its parameters from any supported checkpoint."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vit_jax.checkpoints import orbax_arrays, pretrained
from vit_jax.checkpoints.code_bases import links
from vit_jax.checkpoints.code_bases.table import CODE_BASES
from vit_jax.checkpoints.open_checkpoint import (
    Checkpoint,
    open_checkpoint,
    shapes_of,
)
from vit_jax.checkpoints.positions import Grid, grid_of
from vit_jax.checkpoints.pretrained import Report
from vit_jax.checkpoints.weights import Weight, of_array
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError


def load(path: epath.PathLike, *, verbose: bool = False, **settings: Any
         ) -> tuple[Model, dict[str, Any]]:
  """(model, variables) of a checkpoint.

  Args:
    path: an npz of vision_transformer or big_vision (a subtree may follow after a
      colon), a file or folder of Hugging Face's or timm's ViT (safetensors or
      pytorch_model.bin), an exported model or the work directory of a run. Local, or
      a URL such as gs://... where Orbax and etils can read it.
    verbose: print what was loaded, resized, initialised anew and ignored.
    **settings: `image_size` (height, width), to which positions are resized, and the
      other arguments of `fitted`; fields of the model that the file can't say
      (`num_heads`, `gelu`, `layer_norm_eps`, `pool`, ...) or that are to change
      (`num_classes`: a head of zeros unless the file's fits, `representation_size=0`,
      `scan`, `dtype`).

  Returns:
    (model, variables) for `model.apply(variables, images)`, with images (B, H, W, 3)
    in [-1, 1].

  Raises:
    UserError: for a damaged or incomplete checkpoint, one of another architecture,
      and one that more than one model fits.
  """
  with fitted(path, **settings) as (model, grid, weights, report):
    if verbose:
      print(report)
    own_links = CODE_BASES['vit_jax'].links(model, shapes_of(model, grid))
    params = {
        # An array at a time: what was read is freed as soon as it is on the device.
        name: jax.block_until_ready(jnp.asarray(weight.read(), model.param_dtype))
        for name, weight in links.to_theirs(own_links, weights).items()}
  return model, {'params': orbax_arrays.nest(params)}


@contextlib.contextmanager
def fitted(
    path: epath.PathLike, *, image_size: int | tuple[int, int] | None = None,
    position_grid: int | Grid | None = None, head: str = 'auto',
    pre_logits: str = 'drop', position_resize: str = 'auto',
    any_architecture: bool = False, averaged: bool = True, **overrides: Any
) -> Iterator[tuple[Model, Grid | None, dict[str, Weight], Report]]:
  """(model, grid, weights, report): complete weights of a checkpoint, still unread.

  Args:
    path: see `load`.
    image_size: (height, width) of the images.
    position_grid: (h, w) of the file's positions, where it can't say.
    head, pre_logits, position_resize: see `pretrained.adapt`.
    any_architecture, averaged: see `open_checkpoint`.
    **overrides: options of the model.
  """
  size = _pair('image_size', image_size)
  with open_checkpoint(
      path, overrides, image_size=size,
      position_grid=_pair('position_grid', position_grid),
      any_architecture=any_architecture, averaged=averaged) as checkpoint:
    _check_intact(checkpoint)
    # What was settled while opening holds for the result too.
    model = checkpoint.detected.create(overrides)
    grid = checkpoint.grid
    if size and grid is not None:
      grid = grid_of(model, size)
    weights, report = pretrained.adapt(
        checkpoint, model, grid, head=head, pre_logits=pre_logits,
        position_resize=position_resize)
    for name, shape in shapes_of(model, grid).items():
      if name not in weights:
        weights[name] = of_array(_fresh(model, name, shape))
    yield model, grid, weights, report


def _check_intact(checkpoint: Checkpoint) -> None:
  """Raises UserError if the files of one of our own checkpoints are not as written."""
  arrays = checkpoint.contents.arrays
  if arrays and (problem := arrays.damage((0, 1))):
    raise UserError(
        f'{checkpoint.path} is damaged: {problem}. Give another checkpoint, or train '
        'or export it again.')


def _pair(name: str, size: Any) -> tuple[int, int] | None:
  if size is None:
    return None
  size = (size, size) if isinstance(size, int) else tuple(size)
  if len(size) != 2 or any(not isinstance(x, int) or x < 1 for x in size):
    raise UserError(f'{name} is {size!r}; expected (height, width).')
  return size


def _fresh(model: Model, name: str, shape: tuple[int, ...]) -> np.ndarray:
  if name == 'head/kernel':
    return np.zeros(shape, np.float32)
  if name == 'head/bias':
    return np.full(shape, model.options.head_bias_init, np.float32)
  raise UserError(
      f'The checkpoint has no {name}, which the asked-for model needs. Only a head '
      'can be made anew when loading; leave the setting out that adds the layer.')
