"""Using a trained run: evaluating a split, predicting images."""

import jax
import numpy as np

from vit_jax.checkpoints.store import Store
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import Config, MeshSection
from vit_jax.data import open_input, read_image_files
from vit_jax.evaluators import of_run
from vit_jax.evaluators.classify import Classify
from vit_jax.objectives import classification
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import UserError
from vit_jax.training import job as job_lib
from vit_jax.training import workdir as workdir_lib

# Images that `predict` holds in memory.
_FILES_AT_ONCE = 64


class TrainedRun:
  """The model of a work directory with the parameters of one checkpoint."""

  def __init__(self, workdir: str, config: Config | None = None, step: int = 0,
               devices=None):
    """Restores the parameters.

    Args:
      workdir: of a `vit_jax train`.
      config: the run's settings with overrides; None: as recorded.
      step: which checkpoint; 0: the best one if the run kept one, else the newest.
      devices: what to run on; None: all.
    """
    self.config = config or workdir_lib.read_config(workdir)
    self.dataset = workdir_lib.read_dataset(workdir)
    # The run may have used another number of devices than there are here.
    mesh = mesh_lib.create(MeshSection(), devices)
    self.job = job_lib.build(self.config, mesh, self.dataset.num_classes)
    store = Store(workdir, self.config.checkpoint, read_only=True)
    try:
      self.step = _choose(store, step, workdir)
      self.params = store.restore_params(
          self.step, self.job.abstract_state.params,
          averaged=self.config.ema_decay > 0)
    finally:
      store.close()

  def evaluate(self, split: str) -> dict:
    """{'accuracy', 'loss'} over a split, given in TFDS slicing syntax."""
    data_input = open_input(self.config.data, split, train=False)
    if tuple(data_input.class_names) != self.dataset.class_names:
      raise UserError(
          f'{data_input.name}[{split}] has the classes '
          f'{workdir_lib.shorten(data_input.class_names)}, the model was trained on '
          f'{workdir_lib.shorten(self.dataset.class_names)}. Evaluate on the classes '
          'of the training.')
    return Classify(self.job, data_input).run(self.params)

  def run_evaluators(self, names=()) -> dict:
    """{'<evaluator>/<metric>': value} of `config.evaluators`; `names`: only these."""
    names = names or [section.name for section in self.config.evaluators]
    evaluators = of_run.Evaluators(self.job, self.dataset.class_names)
    for section in evaluator_settings.select(self.config, names):
      evaluators.add(section)
    return evaluators.run(self.params)

  def predict(self, paths):
    """Yields the class probabilities (C,) of image files, in their order."""
    apply = jax.jit(
        lambda params, images, remaining: classification.predict(
            self.job.model, params, images, self.config, remaining),
        static_argnums=2)
    for start in range(0, len(paths), _FILES_AT_ONCE):
      part = paths[start:start + _FILES_AT_ONCE]
      images, remaining = read_image_files(part, self.config.data)
      # Full batches only, so that there is one program to compile.
      full = min(len(paths), _FILES_AT_ONCE)
      padding = ((0, full - len(part)), (0, 0), (0, 0), (0, 0))
      logits = apply(self.params, np.pad(images, padding), remaining)
      yield from self._probabilities(np.asarray(logits, np.float64)[:len(part)])

  def _probabilities(self, logits):
    if self.config.loss.name == 'sigmoid':
      return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _choose(store, step, workdir):
  steps = store.steps()
  if not steps:
    raise UserError(
        f'{workdir} holds no checkpoint yet; let its training reach '
        'config.checkpoint.every steps first.')
  if step and step not in steps:
    raise UserError(
        f'{workdir} has no checkpoint of step {step}; it has '
        f'{", ".join(map(str, steps))}.')
  return step or store.best() or steps[-1]
