"""Starting a run from the parameters of another one, or of any other checkpoint."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from vit_jax.checkpoints import augreg, orbax_arrays, pretrained
from vit_jax.checkpoints.code_bases import links, pixels
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.table import CODE_BASES
from vit_jax.checkpoints.open_checkpoint import Checkpoint, open_checkpoint, shapes_of
from vit_jax.checkpoints.positions import Grid, grid_of
from vit_jax.checkpoints.pretrained import Report
from vit_jax.checkpoints.weights import Weight
from vit_jax.config.sections import Config, ModelSection
from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError, warn
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.job import Job
from vit_jax.training.state import TrainState


def with_pixels(config: Config, workdir: str) -> Config:
  """`config` with the pixel statistics that its model starts from.

  Where `config.model` sets none, they are those of `config.init.checkpoint`; a run that
  is resumed keeps its own, and needs the checkpoint no more.
  """
  model, path = config.model, config.init.checkpoint
  if not path or model.pixel_mean or model.pixel_std:
    return config
  if workdir_lib.is_run(workdir):
    return _replace_pixels(config, workdir_lib.read_config(workdir).model)
  size = config.data.image_size
  with open_checkpoint(
      augreg.resolve(path, config.init.augreg_bucket), image_size=size,
      hints={'pool': model.pool, 'num_heads': model.num_heads or 1},
      position_grid=config.init.position_grid or None, best=False,
      any_architecture=config.init.any_architecture,
      averaged=config.init.averaged) as checkpoint:
    if pixels.are_plain(checkpoint.model):
      return config
    found = checkpoint.model.options
  if hosts.is_main():
    print(f'Pixel statistics of {path}: mean {found.pixel_mean}, standard deviation '
          f'{found.pixel_std}.')
  return _replace_pixels(config, found)


def _replace_pixels(config: Config, model: ModelSection) -> Config:
  return dataclasses.replace(config, model=dataclasses.replace(
      config.model, pixel_mean=model.pixel_mean, pixel_std=model.pixel_std))


def check_exists(path: str) -> None:
  """Raises UserError for a local checkpoint that isn't there; opens no other."""
  # A colon: a URL, a model of AugReg, or a subtree of an npz file.
  if ':' not in path and not os.path.exists(os.path.expanduser(path)):
    with open_checkpoint(path):
      pass  # It says what it expected.


def check_checkpoint(path: str, job: Job) -> None:
  """Raises UserError unless `load_params` will find what the job's model needs.

  Reads no arrays. All processes must call it; of a work directory, each reads a part
  of the files, for their checksums.
  """
  with _adapted(path, job) as (checkpoint, _, _):
    arrays = checkpoint.contents.arrays
    problem = arrays.damage(
        (jax.process_index(), jax.process_count())) if arrays else ''
  if hosts.anywhere(bool(problem)):
    raise UserError(
        f'config.init.checkpoint={path!r} is damaged: '
        f'{problem or "another process found it"}. Give another one, or train it '
        'again.')


def load_params(state: TrainState, path: str, job: Job,
                class_names: Sequence[str] = ()) -> TrainState:
  """`state` with the parameters of a checkpoint, fitted to the job's model.

  What the checkpoint doesn't have, such as a head of other classes, stays as it was
  initialised. `config.init` says what to do with head, pre_logits and positions.

  Args:
    state: the freshly initialised `TrainState`.
    path: anything that `load.load` reads (of a work directory, the newest
      checkpoint, averaged if it is), or the name of a published AugReg model.
    job: the job that is about to train.
    class_names: of its data set; (): unknown.
  """
  with _adapted(path, job, class_names) as (checkpoint, weights, report):
    if hosts.is_main():
      print(report)
      for text in report.warnings:
        warn(text)
    # Stacked, if the model is: a parameter that is missing in part is missing.
    own_links = [
        link for link in CODE_BASES['vit_jax'].links(
            job.model, shapes_of(job.model, _grid(job)))
        if all(name in weights for name in link.ours)]
    found = links.to_theirs(own_links, weights)
    params = orbax_arrays.flatten(state.params)
    direct = _as_stored(checkpoint, own_links, weights) & params.keys()
    if direct and (arrays := checkpoint.contents.arrays):
      params |= arrays.restore({name: params[name] for name in direct})
    for name, like in params.items():
      if name in found and name not in direct:
        params[name] = _place(found[name], like)
  params = orbax_arrays.nest(params)
  ema = None if state.ema is None else jax.tree.map(jax.numpy.copy, params)
  return dataclasses.replace(state, params=params, ema=ema)


@contextlib.contextmanager
def _adapted(path: str, job: Job, class_names: Sequence[str] = ()
             ) -> Iterator[tuple[Checkpoint, dict[str, Weight], Report]]:
  """(checkpoint, weights, report) of an open checkpoint, see `pretrained.adapt`."""
  init, model = job.config.init, job.model
  hints = {name: getattr(model.options, name) for name in ('num_heads', 'pool')
           if name in model.OPTIONS}
  with open_checkpoint(
      augreg.resolve(path, init.augreg_bucket), hints=hints,
      image_size=job.config.data.image_size, position_grid=init.position_grid or None,
      best=False, any_architecture=init.any_architecture,
      averaged=init.averaged) as checkpoint:
    yield checkpoint, *pretrained.adapt(
        checkpoint, model, _grid(job), head=init.head, pre_logits=init.pre_logits,
        position_resize=init.position_resize, class_names=class_names)


def _as_stored(checkpoint: Checkpoint, own_links: Sequence[Link],
               weights: Mapping[str, Weight]) -> set[str]:
  """Parameters that one of our checkpoints holds just as the job wants them."""
  if checkpoint.contents.arrays is None:
    return set()
  return {name for link in own_links for name in link.theirs
          if name in checkpoint.contents.weights
          and all(weights[our] is checkpoint.weights[our] for our in link.ours)}


def _grid(job: Job) -> Grid | None:
  if not job.model.options.patch_size:
    return None
  return grid_of(job.model, job.config.data.image_size)


def _place(weight: Weight, like: jax.Array) -> jax.Array:
  """The weight where and as what `like` is; every device takes only its part."""
  array = np.asarray(weight.read())
  return jax.make_array_from_callback(
      like.shape, like.sharding, lambda part: array[part].astype(like.dtype))
