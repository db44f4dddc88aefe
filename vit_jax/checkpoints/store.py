"""Checkpoints of a run: WORKDIR/checkpoints/<step>, written asynchronously.

Each holds the training state and, beside it, the position in the data and the
configuration. Orbax commits a checkpoint by renaming its directory, so one that
was being written when the process died is never seen.
"""

import pathlib

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.parallel import rules
from vit_jax.sections import CheckpointSection, Config

_STATE, _META = 'state', 'meta'


class Store:
  """The checkpoints under one work directory."""

  def __init__(self, workdir, section: CheckpointSection, *, read_only=False):
    self._directory = pathlib.Path(workdir).absolute() / 'checkpoints'
    self._manager = ocp.CheckpointManager(
        self._directory, options=_options(section, read_only),
        item_names=(_STATE, _META),
        item_handlers={
            _STATE: ocp.StandardCheckpointHandler(),
            _META: ocp.JsonCheckpointHandler(),
        })

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    return self._manager.latest_step()

  def best(self) -> int | None:
    return self._manager.best_step()

  def path(self, step: int) -> pathlib.Path:
    return self._directory / str(step)

  def save(self, state, config: Config, metrics: dict | None = None):
    """Starts writing `state`; returns as soon as it may be overwritten."""
    step = int(state.step)
    meta = {
        'examples_seen': step * config.batch_size,
        'config': config_lib.to_dict(config),
    }
    self._manager.save(
        step, metrics=metrics, force=True,
        args=ocp.args.Composite(**{
            _STATE: ocp.args.StandardSave(_as_dict(state)),
            _META: ocp.args.JsonSave(meta)}))

  def restore(self, step: int, abstract_state):
    """The state of `step`, laid out as `abstract_state` says.

    Args:
      step: a committed step.
      abstract_state: `TrainState` of `jax.ShapeDtypeStruct` with shardings.

    Raises:
      UserError: if the checkpoint holds other arrays than the model needs.
    """
    expected = _as_dict(abstract_state)
    self._check_arrays(step, expected)
    restored = self._manager.restore(
        step, args=ocp.args.Composite(
            **{_STATE: ocp.args.StandardRestore(expected)}))[_STATE]
    return abstract_state.replace(**restored)

  def check_params(self, step: int, abstract_params, *, averaged: bool):
    """Raises UserError unless `restore_params` finds arrays of these shapes."""
    name = 'ema' if averaged else 'params'
    self._check_arrays(step, {name: abstract_params}, only=name)

  def restore_params(self, step: int, abstract_params, *, averaged: bool):
    """Only the parameters of `step`; optimizer state stays on disk.

    Args:
      step: a committed step.
      abstract_params: `jax.ShapeDtypeStruct`s with shardings.
      averaged: take the moving average instead of the newest parameters.
    """
    self.check_params(step, abstract_params, averaged=averaged)
    name = 'ema' if averaged else 'params'
    expected = {name: abstract_params}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      return checkpointer.restore(
          self.path(step) / _STATE,
          args=ocp.args.PyTreeRestore(
              item=expected, partial_restore=True,
              restore_args=ocp.checkpoint_utils.construct_restore_args(
                  expected)))[name]

  def reached_preemption(self, step: int) -> bool:
    """Whether the cluster asks to stop; all processes get the same answer."""
    return self._manager.reached_preemption(step)

  def wait(self):
    """Returns when everything handed to `save` is committed."""
    self._manager.wait_until_finished()

  def close(self):
    self._manager.close()

  def _check_arrays(self, step, expected, only=''):
    found = _shapes(self._manager.item_metadata(step)[_STATE])
    found = {k: v for k, v in found.items() if k.split('/')[0] == only or not only}
    wanted = _shapes(expected)
    wrong = [
        f'  {name}: {found.get(name, "absent")} in the checkpoint, '
        f'{wanted.get(name, "absent")} in the model'
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)]
    if wrong:
      more = f'\n  ... and {len(wrong) - 8} more' if len(wrong) > 8 else ''
      raise UserError(
          f'The checkpoint {self.path(step)} belongs to another model or '
          'optimizer:\n' + '\n'.join(wrong[:8]) + more +
          '\nUse the configuration it was written with.')


def newest_step(workdir, section: CheckpointSection) -> int:
  """The newest committed step under a work directory, 0 without one."""
  store = Store(workdir, section, read_only=True)
  try:
    return store.latest() or 0
  finally:
    store.close()


def _as_dict(state):
  return {'step': state.step, 'params': state.params,
          'opt_state': state.opt_state, 'ema': state.ema}


def _shapes(tree):
  return {rules.path_name(path): tuple(x.shape)
          for path, x in jax.tree_util.tree_leaves_with_path(tree)
          if hasattr(x, 'shape') and x.shape is not None}


def _options(section, read_only):
  policies = [checkpoint_managers.LatestN(section.keep)]
  best = {}
  if section.best_metric:
    best = {'best_fn': lambda metrics: metrics[section.best_metric],
            'best_mode': section.best_mode}
    policies.append(checkpoint_managers.BestN(
        get_metric_fn=best['best_fn'], reverse=section.best_mode == 'min', n=1,
        keep_checkpoints_without_metrics=False))
  return ocp.CheckpointManagerOptions(
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
      read_only=read_only, enable_async_checkpointing=True,
      create=not read_only, **best)
