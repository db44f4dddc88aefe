"""`vit_jax.load`: a model and its parameters from any supported checkpoint."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import (
  detect,
  jax_names,
  names,
  opening,
  orbax_model,
  pretrained,
)
from vit_jax.checkpoints.weights import of_array
from vit_jax.runtime.errors import UserError


def load(path, *, verbose: bool = False, **settings):
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
    links = jax_names.own(model, opening.shapes_of(model, grid))
    params = {
        # An array at a time: what was read is freed as soon as it is on the device.
        name: jax.block_until_ready(jnp.asarray(weight.read(), model.param_dtype))
        for name, weight in names.to_theirs(links, weights).items()}
  return model, {'params': orbax_model.nest(params)}


@contextlib.contextmanager
def fitted(path, *, image_size=None, position_grid=None, head: str = 'auto',
           pre_logits: str = 'drop', position_resize: str = 'auto', **overrides):
  """(model, grid, weights, report): complete weights of a checkpoint, still unread.

  Args:
    path: see `load`.
    image_size: (height, width) of the images.
    position_grid: (h, w) of the file's positions, where it can't say.
    head, pre_logits, position_resize: see `pretrained.adapt`.
    **overrides: fields of the model.
  """
  image_size = as_size('image_size', image_size)
  with opening.opened(
      path, overrides, image_size=image_size,
      position_grid=as_size('position_grid', position_grid)) as checkpoint:
    # What was settled while opening holds for the result too.
    model = checkpoint.detected.create(overrides)
    grid = checkpoint.grid
    if image_size and grid is not None:
      grid = detect.grid_of(model, image_size)
    weights, report = pretrained.adapt(
        checkpoint, model, grid, head=head, pre_logits=pre_logits,
        position_resize=position_resize)
    for name, shape in opening.shapes_of(model, grid).items():
      if name not in weights:
        weights[name] = of_array(_fresh(model, name, shape))
    yield model, grid, weights, report


def as_size(name: str, size) -> tuple[int, int] | None:
  if size is None:
    return None
  size = (size, size) if isinstance(size, int) else tuple(size)
  if len(size) != 2 or any(not isinstance(x, int) or x < 1 for x in size):
    raise UserError(f'{name} is {size!r}; expected (height, width).')
  return size


def _fresh(model, name, shape):
  if name == 'head/kernel':
    return np.zeros(shape, np.float32)
  if name == 'head/bias':
    return np.full(shape, model.options.head_bias_init, np.float32)
  raise UserError(
      f'The checkpoint has no {name}, which the asked-for model needs. Only a head '
      'can be made anew when loading; leave the setting out that adds the layer.')
