"""The only training loop.

One iteration: save if due, take the next batch, step, log if due, evaluate if due.
The batch comes after the save, so a checkpoint's step is its data position.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax import objectives
from vit_jax.checkpoints import directory, initial, resume
from vit_jax.checkpoints.store import Store
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import Config
from vit_jax.data import open_input
from vit_jax.evaluators.suite import open_suite
from vit_jax.parallel import batches as batches_lib
from vit_jax.parallel import hosts, shared_folder
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime import host_memory
from vit_jax.runtime.errors import warn
from vit_jax.runtime.stopping import Stopped, StopRequest
from vit_jax.runtime.storage import StorageError
from vit_jax.training import job as job_lib
from vit_jax.training import metrics as metrics_lib
from vit_jax.training import overview, ownership, same_run, stalled_starts
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.checks import check_run
from vit_jax.training.profiler import Profiler
from vit_jax.training.programs import TrainStep
from vit_jax.training.progress import Progress, duration
from vit_jax.training.reuse import Reuse
from vit_jax.training.state import TrainState


def train(config: Any, workdir: str, reuse: Reuse | None = None) -> dict[str, float]:
  """Trains until `total_steps`, from the newest checkpoint in `workdir` if any.

  Args:
    config: a `Config`, or a `ConfigDict` or dict with the same keys.
    workdir: where checkpoints, metrics and settings go.
    reuse: for callers of several runs: what they share in this process.

  Returns:
    The measurements of the last evaluation, such as 'test/accuracy'; those of
    the run's end if it was already finished.

  Raises:
    UserError: for anything that the caller can mend.
    Stopped: after a signal or a preemption notice; the state has been saved.
    LeaseLost: a UserError, if another run may have taken `workdir` over.
  """
  if not isinstance(config, Config):
    config = config_lib.with_tuned(config_lib.from_dict(
        dict(getattr(config, 'to_dict', lambda: config)())))
  directory.check_writable(workdir)
  config = initial.with_pixels(check_run(config), workdir)
  if config.keep_host_memory:
    host_memory.keep_freed()  # Before JAX starts its threads.
  same_run.check_settings(config)
  mesh = mesh_lib.create(config.mesh)
  mesh_lib.check_batch(mesh, config.batch_size, config.accum_steps)
  # With several processes JAX's preemption service owns SIGTERM, so that all of them
  # stop at the same step.
  stop_request = StopRequest() if jax.process_count() == 1 else StopRequest(())
  with stop_request as stop, futures.ThreadPoolExecutor(3) as background:
    return _Run(config, workdir, mesh, stop, background, reuse or Reuse()).run()


class _Run:
  """The loop's state that is not part of a checkpoint."""

  def __init__(self, config: Config, workdir: str, mesh: Mesh, stop: StopRequest,
               background: futures.ThreadPoolExecutor, reuse: Reuse) -> None:
    self.config, self.stop = config, stop
    self.background, self.reuse = background, reuse
    self.main = hosts.is_main()
    self.input = open_input(
        config.data, config.data.train_split, train=True, splits=reuse.splits)
    # Reading data and compiling the step take turns on different resources.
    self.reader = background.submit(self.input.start)
    self.total_steps = job_lib.total_steps(config, self.input.num_examples)
    self.job = job_lib.build(
        config, mesh, self.input.num_classes, self.total_steps, reuse.programs)
    self.evaluators = open_suite(
        self.job, self.input.class_names, evaluator_settings.of_run(config), reuse)
    self.workdir = workdir
    self.dataset = workdir_lib.DatasetFacts(
        config.data.name, self.input.num_examples, self.input.num_classes,
        tuple(self.input.class_names))
    # On every process, so that a mistake ends all of them with its message.
    workdir_lib.check_usable(workdir, config, self.dataset)
    # The newest evaluation and its step.
    self.measured, self.measured_at = {}, -1

  def run(self) -> dict[str, float]:
    """The newest measurements, see `train`."""
    # Before anything is decided by what is there.
    with ownership.of(
        self.workdir, lambda: self.stop.request('a lost lease')) as check_owner:
      return self._run(check_owner)

  def _run(self, check_owner: Callable[[], None]) -> dict[str, float]:
    shared_folder.check(self.workdir)
    start = resume.find(self.workdir, self.config.checkpoint)
    same_run.check_plan(self.job, self.dataset, start)
    if start >= self.total_steps:
      return self._already_finished(start)
    if self.config.init.checkpoint and not start:
      initial.check_checkpoint(self.config.init.checkpoint, self.job)
    if self.main:
      workdir_lib.claim(self.workdir, self.config, self.dataset)
    stalled_starts.check(self.workdir, self.config, start)
    hosts.barrier('workdir')
    store = Store(self.workdir, self.config.checkpoint, before_writing=check_owner)
    try:
      if self.main:
        print(
            overview.describe(self.job, self.input, self.workdir, start), flush=True)
        _warn_of_choosing_by_test(self.config.checkpoint.best_metric)
        _warn_of_large_batch(self.config.batch_size, self.input.num_examples)
      writer = None
      if self.main:
        writer = metrics_lib.Writer(self.workdir, start, check_owner)
      try:
        return self._train(store, writer, start)
      finally:
        if writer:
          _written(writer.close, 'last measurements')
    finally:
      store.close()

  def _already_finished(self, step: int) -> dict[str, float]:
    values = {k: v for row in metrics_lib.read(self.workdir)
              for k, v in row.items() if k != 'step'}
    if self.main:
      print(f'{self.workdir} is finished: {step} of {self.total_steps} steps are '
            'done. Nothing to do; raise config.total_steps to go on, or give a new '
            '--workdir.')
    return {k: v for k, v in values.items() if not k.startswith('train/')}

  def _first_state(self, store: Store, start: int) -> TrainState:
    if start:
      return store.restore(start, self.job.abstract_state)
    state = job_lib.init_state(self.job, self.reuse.programs)
    if self.config.init.checkpoint:
      state = initial.load_params(
          state, self.config.init.checkpoint, self.job, self.dataset.class_names)
    return state

  def _train(self, store: Store, writer: metrics_lib.Writer | None,
             start: int) -> dict[str, float]:
    config = self.config
    began = time.monotonic()
    # Compiled beside the first state, but only this thread starts computations:
    # all hosts must start them in the same order.
    compiling = self.background.submit(self.reuse.programs.get, TrainStep(
        self.job.setup, self.input.remaining, self.input.stored_shape,
        self.input.label_shape))
    checking = None if start else self.background.submit(self.evaluators.check_labels)
    state = self._first_state(store, start)
    train_step = compiling.result()
    self.reader.result()
    if checking:
      checking.result()
    progress = Progress(
        self.total_steps, config.batch_size, objectives.find(config.objective).shown,
        silent=not self.main)
    profiler = Profiler(config.profile, self.workdir, start)
    try:
      step, stopping = self._loop(
          state, start, train_step, store, writer, progress, profiler)
    finally:
      profiler.close()
    store.wait()
    self._conclude(step, stopping, store, progress, time.monotonic() - began)
    return self.measured

  def _loop(self, state: TrainState, start: int, train_step: Callable[..., Any],
            store: Store, writer: metrics_lib.Writer | None, progress: Progress,
            profiler: Profiler) -> tuple[int, bool]:
    """All iterations; returns the last step and whether a request ended them."""
    config = self.config
    batches = self._batches(start)
    seed = np.uint32(config.seed)
    window = metrics_lib.Window()
    step = start
    while True:
      stopping = self._should_stop(store, step)
      last = step == self.total_steps
      if step > start and (step % config.checkpoint.every == 0 or last or stopping):
        window.fetch()
        progress.pause()
        if writer:
          _written(writer.commit, 'measurements')
        fresh = self.measured if self.measured_at == step else None
        store.save(state, config, metrics=fresh)
        progress.resume()
      if last or stopping:
        break
      profiler.before(step)
      batch = next(batches)
      state, measured = train_step(state, batch, seed, self.job.rates(step))
      step += 1
      profiler.after(step, measured)
      window.add(step, measured)
      progress.step(step)
      last = step == self.total_steps
      if step % config.log_every == 0 or last:
        self._log(step, window, writer, progress)
      if last or (config.eval_every and step % config.eval_every == 0):
        window.fetch()
        self._evaluate(step, state, writer, progress)
    return step, stopping

  def _batches(self, start: int) -> Iterator[dict[str, jax.Array]]:
    sharding = mesh_lib.over_batch(self.job.mesh)
    size = self.config.batch_size
    rows = batches_lib.rows_of_process(sharding, size)
    reader = self.reader.result()
    for local in reader.train_batches(self.config.seed, size, rows, start):
      yield batches_lib.to_global(local, rows, sharding, size)

  def _should_stop(self, store: Store, step: int) -> bool:
    if jax.process_count() > 1:
      return store.reached_preemption(step)
    return bool(self.stop.reason)

  def _log(self, step: int, window: metrics_lib.Window,
           writer: metrics_lib.Writer | None, progress: Progress) -> None:
    values = window.mean()
    rate = progress.log(step, values)
    _record(writer, step, {
        **{f'train/{name}': value for name, value in values.items()},
        'train/learning_rate': self.job.schedule(step - 1),
        'train/images_per_second': rate,
        'train/skipped_records': len(self.reader.result().bad_records)})

  def _evaluate(self, step: int, state: TrainState,
                writer: metrics_lib.Writer | None, progress: Progress) -> None:
    progress.pause()
    self.measured_at = step
    # The last evaluation is of everything, whatever its number.
    number = 0 if step == self.total_steps else step // self.config.eval_every
    self.measured = self.evaluators.run(state.eval_params, number)
    metrics_lib.check_finite(step, self.measured)
    if writer and self.measured:
      _record(writer, step, self.measured)
      progress.say(f'step {step}  ' + overview.values(self.measured))
    progress.resume()

  def _conclude(self, step: int, stopping: bool, store: Store, progress: Progress,
                seconds: float) -> None:
    if stopping and step < self.total_steps:
      reason = self.stop.reason or 'preemption'
      where = f'saved as {store.path(step)}' if step in store.steps() else 'nothing new'
      progress.say(
          f'Stopped at step {step} of {self.total_steps} by {reason}: {where}. Run '
          'the same command to go on.')
      raise Stopped(step, self.total_steps, reason)
    progress.say(overview.summary(
        self.job, self.workdir, store, self.measured, duration(seconds)))


def _record(writer: metrics_lib.Writer | None, step: int,
            values: Mapping[str, float]) -> None:
  """Writes measurements; a full disk costs them, not the run."""
  if writer:
    _written(lambda: writer.write(step, values), f'measurements of step {step}')


def _warn_of_choosing_by_test(metric: str) -> None:
  if metric.startswith('test/'):
    warn(f'config.checkpoint.best_metric={metric!r} chooses the checkpoint by the test '
         'data, so its result on them is a maximum over evaluations. Hold out a part '
         "of train, such as config.data.train_split='train[:90%]' and "
         "config.data.val_split='train[90%:]', and choose by val/...")


def _warn_of_large_batch(batch_size: int, num_examples: int) -> None:
  if batch_size > num_examples:
    warn(f'config.batch_size={batch_size} is more than the {num_examples} training '
         'examples, so that every batch holds some of them more than once; a smaller '
         'batch makes more of them.')


def _written(write: Callable[[], None], what: str) -> None:
  try:
    write()
  except StorageError as e:
    warn(f'the {what} could not be written: {e}')
