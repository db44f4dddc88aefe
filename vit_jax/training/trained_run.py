"""Using a trained run: evaluating a split, predicting images."""

from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any, cast

import jax
import numpy as np

from vit_jax import objectives
from vit_jax.checkpoints.store import Store
from vit_jax.config.sections import (
    Config,
    EvaluatorSection,
    MeshSection,
)
from vit_jax.data import ImageReader, open_input
from vit_jax.evaluators import KINDS
from vit_jax.evaluators.classify import Classify
from vit_jax.evaluators.split_pass import SplitPass
from vit_jax.evaluators.suite import open_suite
from vit_jax.objectives.objective import PredictsClasses
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.errors import DataError, UserError
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training import job as job_lib
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.reuse import Reuse


class TrainedRun:
  """The model of a work directory with the parameters of one checkpoint."""

  def __init__(self, workdir: str, config: Config | None = None, step: int = 0,
               devices: Sequence[Any] | None = None) -> None:
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

  def evaluate(self, split: str) -> dict[str, float]:
    """The objective's metrics over a split, given in TFDS slicing syntax."""
    data_input = open_input(self.config.data, split, train=False)
    if tuple(data_input.class_names) != self.dataset.class_names:
      raise UserError(
          f'{data_input.name}[{data_input.split}] has the classes '
          f'{workdir_lib.shorten(data_input.class_names)}, the model was trained on '
          f'{workdir_lib.shorten(self.dataset.class_names)}. Evaluate on the classes '
          'of the training.')
    section = EvaluatorSection(test_split=split)
    test = SplitPass(self.job, data_input)
    return Classify(section, self.job, test, ProgramCache()).run(self.params)

  def run_evaluators(self, names: Sequence[str] = ()) -> dict[str, float]:
    """{'<evaluator>/<metric>': value} of `config.evaluators`; `names`: only these."""
    sections = select(self.config, names) if names else self.config.evaluators
    suite = open_suite(self.job, self.dataset.class_names, sections, Reuse())
    return suite.run(self.params)

  def predict(self, paths: Sequence[str], batch_size: int = 64
              ) -> Iterator[np.ndarray | DataError]:
    """Yields the class probabilities (C,) of image files, in their order.

    A file that is no intact image gives a DataError, which names it, in their place.

    Args:
      paths: of the files.
      batch_size: how many are held in memory, and go through the model at once.

    Raises:
      UserError: if the run's objective knows of no classes.
    """
    if not issubclass(objectives.find(self.config.objective), PredictsClasses):
      raise UserError(
          f'config.objective={self.config.objective!r} does not predict the classes of '
          'images. Take a run whose objective does, such as classification.')
    reader = ImageReader(self.config.data)
    objective = cast(PredictsClasses, self.job.setup.objective(reader.remaining))
    apply = jax.jit(objective.logits)
    # Full batches only, so that there is one program to compile.
    batch = np.zeros((min(len(paths), batch_size), *self.config.data.image_size, 3),
                     np.uint8)
    with futures.ThreadPoolExecutor() as pool:
      for start in range(0, len(paths), batch_size):
        read = list(pool.map(
            lambda path: _read(reader, path), paths[start:start + batch_size]))
        for i, image in enumerate(read):
          batch[i] = 0 if isinstance(image, DataError) else image
        logits = np.asarray(apply(self.params, batch))
        probabilities = objective.probabilities(logits[:len(read)])
        for image, of_classes in zip(read, probabilities, strict=True):
          yield image if isinstance(image, DataError) else of_classes


def _read(reader: ImageReader, path: str) -> np.ndarray | DataError:
  try:
    return reader.read(path)
  except DataError as e:
    return e


def select(config: Config, names: Sequence[str]) -> tuple[EvaluatorSection, ...]:
  """Those of `config.evaluators` with these names; UserError for unknown ones."""
  found = {section.name: section for section in config.evaluators}
  unknown = [name for name in names if name not in found]
  if unknown:
    raise UserError(
        f'There is no evaluator {unknown[0]!r}; the run has '
        f'{", ".join(found) or "none"}. Give names of config.evaluators, or --kind '
        f'for one that the run does not have: {", ".join(KINDS)}.')
  return tuple(found[name] for name in names)


def _choose(store: Store, step: int, workdir: str) -> int:
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
