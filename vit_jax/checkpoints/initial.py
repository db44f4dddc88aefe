"""Starting a run from the parameters of another one."""

import contextlib

import jax
import jax.numpy as jnp

from vit_jax import workdir as workdir_lib
from vit_jax.checkpoints.store import Store
from vit_jax.errors import UserError


def check(checkpoint: str, job):
  """Raises UserError unless `load_params` will find what the job's model needs."""
  with _open(checkpoint) as (store, step, config):
    store.check_params(step, job.abstract_state.params, averaged=config.ema_decay > 0)


def load_params(state, checkpoint: str, job):
  """`state` with the parameters of the newest checkpoint in a work directory.

  Args:
    state: the freshly initialised `TrainState`.
    checkpoint: work directory of another run; its averaged parameters are taken
      if it has them.
    job: the job that is about to train.
  """
  with _open(checkpoint) as (store, step, config):
    params = store.restore_params(
        step, job.abstract_state.params, averaged=config.ema_decay > 0)
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, ema=ema)


@contextlib.contextmanager
def _open(checkpoint):
  """(store, its newest step, the configuration of its run)."""
  config = workdir_lib.read_config(checkpoint)
  store = Store(checkpoint, config.checkpoint, read_only=True)
  try:
    step = store.latest()
    if step is None:
      raise UserError(
          f'config.init.checkpoint={checkpoint} holds no checkpoint yet; give the '
          'work directory of a run that has saved one.')
    yield store, step, config
  finally:
    store.close()
