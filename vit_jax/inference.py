"""Using a trained run: evaluating a split, predicting images."""

import jax
import numpy as np

from vit_jax import classification
from vit_jax import job as job_lib
from vit_jax import workdir as workdir_lib
from vit_jax.checkpoints.store import Store
from vit_jax.data import open_input, predict_images
from vit_jax.errors import UserError
from vit_jax.evaluate import Evaluator
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.sections import Config, MeshSection


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
    if data_input.num_classes != self.dataset.num_classes:
      raise UserError(
          f'{data_input.name}[{split}] has {data_input.num_classes} classes, the '
          f'model was trained on {self.dataset.num_classes}.')
    return Evaluator(self.job, data_input).run(self.params)

  def predict(self, paths) -> np.ndarray:
    """Class probabilities (len(paths), C) of image files."""
    images, remaining = predict_images(paths, self.config.data)
    logits = jax.jit(lambda params, images: classification.predict(
        self.job.model, params, images, self.config, remaining))(self.params, images)
    logits = np.asarray(logits, np.float64)
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
