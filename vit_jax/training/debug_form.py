"""Any recipe in a form that takes seconds on a CPU: what `--debug` selects.

The recipe stays what it is: kind of model, data set, transforms, augmentation, loss,
optimizer, schedule, evaluators. Only sizes shrink: the model, the image (to two patches
along its shorter side, and with it all that is in pixels), the batch, the number of
examples and of steps. A checkpoint to start from doesn't fit the model any more, so the
run starts from random parameters. Patterns of `optimizer.lr_multipliers` have to match
the two blocks that are left.
"""

import dataclasses
import math
from typing import Any

from vit_jax import evaluators as evaluators_lib
from vit_jax.config.sections import (
  CheckpointSection,
  Config,
  EvaluatorSection,
  InitSection,
  MeshSection,
  ModelSection,
  PreprocessSection,
  ProfileSection,
)
from vit_jax.models import resnet, variants
from vit_jax.training.checks import check_measurements, check_run

BATCH_SIZE, STEPS, EXAMPLES = 8, 3, 64
_WIDTH, _DEPTH, _HEADS = 32, 2, 2
# Patches along the shorter side of the image.
_GRID = 2


def debug_form(config: Config) -> Config:
  """The checked debug form of a recipe.

  Raises:
    UserError: if the recipe names an unknown or impossible model, measures what it
      doesn't have, or stays impossible whatever its sizes.
  """
  check_measurements(config)
  # Sizes and strides are the same on every platform.
  model = variants.from_section(config.model, 1, 'cpu')
  image_size = _image_size(config.data.image_size, model.strides)
  factors = tuple(new / old for new, old in zip(
      image_size, config.data.image_size, strict=True))
  schedule = dataclasses.replace(
      config.schedule,
      warmup_steps=min(1, config.schedule.warmup_steps),
      cooldown_steps=min(1, config.schedule.cooldown_steps))
  evaluators = tuple(_evaluator(section) for section in config.evaluators)
  # Frozen features are fitted to images of every class.
  all_examples = any(
      evaluators_lib.find(section.kind).on_features for section in evaluators)
  data = dataclasses.replace(
      config.data, image_size=image_size,
      max_examples=0 if all_examples else EXAMPLES,
      train=_preprocess(config.data.train, image_size, factors),
      eval=_preprocess(config.data.eval, image_size, factors))
  checkpoint = dataclasses.replace(
      CheckpointSection(), every=STEPS, best_metric=config.checkpoint.best_metric,
      best_mode=config.checkpoint.best_mode)
  return check_run(dataclasses.replace(
      config, total_steps=STEPS, total_epochs=0.0, batch_size=BATCH_SIZE,
      accum_steps=1, eval_batch_size=BATCH_SIZE, log_every=1, eval_every=STEPS,
      model=_model(config.model, model.options), data=data, schedule=schedule,
      mesh=MeshSection(), checkpoint=checkpoint, init=InitSection(),
      profile=ProfileSection(), evaluators=evaluators, tuned=''))


def _model(section: ModelSection, options: ModelSection) -> ModelSection:
  """Smaller wherever the model's complete `options` have a size."""
  small: dict[str, Any] = {
      'width': _WIDTH, 'depth': _DEPTH, 'mlp_dim': 2 * _WIDTH, 'num_heads': _HEADS,
      'token_mlp_dim': 2 * _WIDTH, 'resnet_width': resnet.GROUPS}
  small = {name: value for name, value in small.items() if getattr(options, name)}
  if options.resnet_blocks:
    small['resnet_blocks'] = (1,) * len(options.resnet_blocks)
  if options.representation_size:
    small['representation_size'] = _WIDTH
  return dataclasses.replace(section, **small)


def _image_size(full: tuple[int, int], token: tuple[int, int]) -> tuple[int, int]:
  """As many patches as `_GRID` says, with about the aspect ratio of the full size."""
  grid = [max(size // side, 1) for size, side in zip(full, token, strict=True)]
  shorter = min(grid)
  h, w = (side * max(1, round(n * min(_GRID, shorter) / shorter))
          for side, n in zip(token, grid, strict=True))
  return h, w


def _preprocess(section: PreprocessSection, image_size: tuple[int, ...],
                factors: tuple[float, ...]) -> PreprocessSection:
  """All pixels scaled like the image; crops stay possible."""
  resize = tuple(max(math.ceil(size * f), image) for size, f, image in zip(
      section.resize, factors, image_size, strict=False))
  small = section.resize_small and max(
      math.ceil(section.resize_small * max(factors)), *image_size)
  return dataclasses.replace(
      section, resize=resize, resize_small=small,
      pad=math.ceil(section.pad * max(factors)))


def _evaluator(section: EvaluatorSection) -> EvaluatorSection:
  """Evaluated at the end, with as little fitting as there can be."""
  return dataclasses.replace(
      section, every=1, batch_size=0, shots=(min(section.shots),), seeds=1,
      max_iter=min(section.max_iter, 10))
