"""Starting a run from the parameters of another one, or of any other checkpoint."""

import contextlib

import jax
import numpy as np

from vit_jax.checkpoints import augreg, detect, names, opening, orbax_model, pretrained
from vit_jax.checkpoints.jax_names import own
from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError


def check(checkpoint: str, job):
  """Raises UserError unless `load_params` will find what the job's model needs.

  Reads no arrays. All processes must call it; of a work directory, each reads a part
  of the files, for their checksums.
  """
  with _adapted(checkpoint, job) as (opened, _, _):
    problem = opened.own.damage(
        (jax.process_index(), jax.process_count())) if opened.own else ''
  if hosts.anywhere(bool(problem)):
    raise UserError(
        f'config.init.checkpoint={checkpoint!r} is damaged: '
        f'{problem or "another process found it"}. Give another one, or train it '
        'again.')


def load_params(state, checkpoint: str, job):
  """`state` with the parameters of a checkpoint, fitted to the job's model.

  What the checkpoint doesn't have, such as a head of other classes, stays as it was
  initialised. `config.init` says what to do with head, pre_logits and positions.

  Args:
    state: the freshly initialised `TrainState`.
    checkpoint: anything that `load.load` reads (of a work directory, the newest
      checkpoint, averaged if it is), or the name of a published AugReg model.
    job: the job that is about to train.
  """
  with _adapted(checkpoint, job) as (opened, weights, report):
    if hosts.is_main():
      print(report)
    shapes = opening.shapes_of(job.model, _grid(job))
    # Stacked, if the model is: a parameter that is missing in part is missing.
    links = [link for link in own(job.model, shapes)
             if all(name in weights for name in link.ours)]
    found = names.to_theirs(links, weights)
    params = orbax_model.flatten(state.params)
    direct = _as_stored(opened, links, weights) & params.keys()
    if direct:
      params |= opened.own.restore({name: params[name] for name in direct})
    for name, like in params.items():
      if name in found and name not in direct:
        params[name] = _place(found[name], like)
  params = orbax_model.nest(params)
  ema = None if state.ema is None else jax.tree.map(jax.numpy.copy, params)
  return state.replace(params=params, ema=ema)


@contextlib.contextmanager
def _adapted(checkpoint, job):
  """(checkpoint, weights, report) of an open checkpoint, see `pretrained.adapt`."""
  init, model = job.config.init, job.model
  hints = {name: getattr(model.options, name) for name in ('num_heads', 'pool')
           if name in model.OPTIONS}
  with opening.opened(
      augreg.resolve(checkpoint, init.augreg_bucket), hints=hints,
      image_size=job.config.data.image_size, position_grid=init.position_grid or None,
      best=False) as opened:
    yield opened, *pretrained.adapt(
        opened, model, _grid(job), head=init.head, pre_logits=init.pre_logits,
        position_resize=init.position_resize)


def _as_stored(opened, links, weights) -> set:
  """Parameters that one of our checkpoints holds just as the job wants them."""
  if opened.own is None:
    return set()
  return {name for link in links for name in link.theirs if name in opened.stored
          and all(weights[our] is opened.weights[our] for our in link.ours)}


def _grid(job):
  if not job.model.options.patch_size:
    return None
  return detect.grid_of(job.model, job.config.data.image_size)


def _place(weight, like):
  """The weight where and as what `like` is; every device takes only its part."""
  array = np.asarray(weight.read())
  return jax.make_array_from_callback(
      like.shape, like.sharding, lambda part: array[part].astype(like.dtype))
