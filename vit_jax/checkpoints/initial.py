"""Starting a run from the parameters of another one."""

import jax

from vit_jax import workdir as workdir_lib
from vit_jax.checkpoints.store import Store
from vit_jax.errors import UserError


def load_params(state, checkpoint: str, job):
  """`state` with the parameters of the newest checkpoint in a work directory.

  Args:
    state: the freshly initialised `TrainState`.
    checkpoint: work directory of another run; its averaged parameters are taken
      if it has them.
    job: the job that is about to train.
  """
  params = read_params(checkpoint, job)
  ema = None if state.ema is None else jax.tree.map(lambda x: x.copy(), params)
  return state.replace(params=params, ema=ema)


def read_params(checkpoint: str, job):
  config = workdir_lib.read_config(checkpoint)
  store = Store(checkpoint, config.checkpoint, read_only=True)
  try:
    step = store.latest()
    if step is None:
      raise UserError(
          f'config.init.checkpoint={checkpoint} holds no checkpoint yet; give the '
          'work directory of a run that has saved one.')
    return store.restore_eval_params(
        step, job.abstract_state.params, averaged=config.ema_decay > 0)
  finally:
    store.close()
