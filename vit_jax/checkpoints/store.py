"""Checkpoints of a run: WORKDIR/checkpoints/<step>, written asynchronously.

Each holds the training state and, beside it, the position in the data and the
configuration. Orbax commits a checkpoint by renaming its directory, or in a bucket by
one more object, so one that was being written when the process died is never seen;
checksums tell one that was damaged later.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from vit_jax import config as config_lib
from vit_jax.checkpoints import directory, integrity
from vit_jax.config.sections import CheckpointSection, Config
from vit_jax.parallel import hosts, rules
from vit_jax.parallel.save_barrier import SaveBarrier
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.storage.urls import PathLike
from vit_jax.training.state import TrainState

_STATE, _META = 'state', 'meta'
# Seconds until a save that another process doesn't take part in counts as failed.
_SAVE_TIMEOUT = 1200
_numbers = itertools.count()


class SaveFailed(UserError):
  """The newest checkpoint could not be written."""


class Store:
  """The checkpoints under one work directory."""

  def __init__(self, workdir: PathLike, section: CheckpointSection, *,
               read_only: bool = False,
               before_writing: Callable[[], None] = lambda: None) -> None:
    """Opens them.

    Args:
      workdir: its folder or URL.
      section: how many are kept, and which.
      read_only: changes nothing.
      before_writing: raises if somebody else may write there.
    """
    self._before_writing = before_writing
    self._directory = directory.of(workdir)
    self._section, self._read_only = section, read_only
    if not read_only:
      # What a killed process was writing.
      self._remove_unfinished()
    self._manager = self._open()
    # The step that is being written, and why the newest save failed.
    self._writing, self._failure = None, ''

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        self._directory, options=_options(self._section, self._read_only),
        item_names=(_STATE, _META),
        item_handlers={
            _STATE: integrity.SealingHandler(),
            _META: ocp.JsonCheckpointHandler(),
        })

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    return self._manager.latest_step()

  def best(self) -> int | None:
    return self._manager.best_step()

  def path(self, step: int) -> epath.Path:
    return self._directory / str(step)

  def damage(self, step: int, share: tuple[int, int] = (0, 1)) -> str:
    """What is wrong with the files of `step`, see `integrity.damage`."""
    return integrity.damage(self.path(step) / _STATE, share)

  def save(self, state: TrainState, config: Config,
           metrics: Mapping[str, Any] | None = None) -> None:
    """Starts writing `state`; returns as soon as it may be overwritten.

    A save that fails, as on a full disk, is reported and changes nothing else: the
    checkpoints before it stay, and the next call tries again.
    """
    self._before_writing()
    self.finish()
    if self._failure:
      # What was still being written when the last save had failed.
      self._remove_unfinished()
    step = int(state.step)
    self._writing, self._failure = step, ''
    meta = {
        'examples_seen': step * config.batch_size,
        'config': config_lib.to_dict(config),
    }
    try:
      self._manager.save(
          step, metrics=metrics, force=True,
          args=ocp.args.Composite(**{
              _STATE: integrity.Save(_as_dict(state)),
              _META: ocp.args.JsonSave(meta)}))
    except Exception as e:
      known = isinstance(e, OSError) or storage.is_url(self._directory)
      if not known or jax.process_count() > 1:
        raise  # The others have gone on to the next barrier.
      self._failed(e)

  def finish(self) -> None:
    """Returns when what was handed to `save` is committed, or reported as failed.

    All processes must call it.
    """
    if self._writing is None:
      return
    error = self._finished_here()
    if hosts.anywhere(error is not None):
      self._failed(error)
    self._writing = None

  def _finished_here(self) -> Exception | None:
    """Waits for this process's part of the save; returns what it failed with."""
    try:
      self._manager.wait_until_finished()
    except Exception as e:  # Whatever a file system or Orbax's threads may raise.
      return e
    return None

  def wait(self) -> None:
    """`finish`, and raises SaveFailed if the newest save has failed."""
    self._before_writing()
    self.finish()
    if self._failure:
      advice = ('Check the bucket' if storage.is_url(self._directory) else 'Make room')
      raise SaveFailed(
          f'{self._failure} The newest checkpoint is '
          f'{self.latest() or "none"}. {advice} and run the same command again to go '
          'on from there.')

  def _failed(self, error: Exception | None) -> None:
    self._failure = (
        f'The checkpoint of step {self._writing} could not be written to '
        f'{self._directory}: {_cause(error)}.')
    self._writing = None
    if error is not None or hosts.is_main():
      warn(f'{self._failure} Training goes on, and tries again at the next '
           'checkpoint.')
    # The manager keeps errors for later calls, and has already forgotten the
    # checkpoints that it was going to delete.
    _close(self._manager)
    self._remove_unfinished()
    self._manager = self._open()

  def _remove_unfinished(self) -> None:
    # It may be what fills the disk.
    if hosts.is_main():
      directory.remove_unfinished(self._directory)
    hosts.barrier('unfinished')

  def restore(self, step: int, abstract_state: TrainState) -> TrainState:
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
            **{_STATE: integrity.Restore(expected)}))[_STATE]
    return dataclasses.replace(abstract_state, **restored)

  def check_params(self, step: int, abstract_params: Any, *, averaged: bool) -> None:
    """Raises UserError unless `restore_params` finds arrays of these shapes."""
    name = 'ema' if averaged else 'params'
    self._check_arrays(step, {name: abstract_params}, only=name)

  def restore_params(self, step: int, abstract_params: Any, *, averaged: bool) -> Any:
    """Only the parameters of `step`; optimizer state stays on disk.

    Args:
      step: a committed step.
      abstract_params: `jax.ShapeDtypeStruct`s with shardings.
      averaged: take the moving average instead of the newest parameters.
    """
    problem = self.damage(step)
    if problem:
      raise UserError(
          f'The checkpoint {self.path(step)} is damaged: {problem}. Use another one '
          f'({", ".join(str(s) for s in self.steps() if s != step) or "none is left"})'
          ', or train again.')
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

  def close(self) -> None:
    """Ends a save in progress, too. Needs no other process to call it.

    After an error this process may be the only one that gets here.
    """
    if self._writing is not None and (error := self._finished_here()):
      warn(f'the checkpoint of step {self._writing} could not be written: '
           f'{_cause(error)}')
    self._writing = None
    _close(self._manager)

  def _check_arrays(self, step: int, expected: Mapping[str, Any], only: str = ''
                    ) -> None:
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


def _close(manager: ocp.CheckpointManager) -> None:
  """Closes a manager whose errors have been reported."""
  # Each of its parts tells its error once.
  for _ in range(5):
    try:
      return manager.close()
    except Exception:
      continue


def _cause(error: BaseException | None) -> str:
  """The reason inside of Orbax's wrappers."""
  if error is None:
    return 'another process failed'
  while (inner := error.__cause__ or error.__context__) is not None:
    error = inner
  text = str(error).strip().splitlines()[0]
  # TensorStore's messages have what failed in front and the reason at the end.
  return text if len(text) < 250 else f'{text[:120]} ... {text[-120:]}'


def _as_dict(state: TrainState) -> dict[str, Any]:
  return {'step': state.step, 'params': state.params,
          'opt_state': state.opt_state, 'ema': state.ema}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {rules.path_name(path): tuple(x.shape)
          for path, x in jax.tree_util.tree_leaves_with_path(tree)
          if hasattr(x, 'shape') and x.shape is not None}


def _options(section: CheckpointSection, read_only: bool
             ) -> ocp.CheckpointManagerOptions:
  policies: list[checkpoint_managers.PreservationPolicy] = [
      checkpoint_managers.LatestN(section.keep)]
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
      async_options=_async_options(read_only),
      create=not read_only, **best)


def _async_options(read_only: bool) -> ocp.options.AsyncOptions:
  barrier = None
  if jax.process_count() > 1 and not read_only:
    barrier = SaveBarrier.create(f'save{next(_numbers)}')
  return ocp.options.AsyncOptions(timeout_secs=_SAVE_TIMEOUT, barrier_sync_fn=barrier)
