"""Few-shot accuracy: a linear classifier in closed form on frozen features.

Section 4.1 of https://arxiv.org/abs/2010.11929: regularised least squares from the
features of a few training images per class to targets in {-1, 1}^K. The features are
standardised on the drawn images, with 1e-5 added to their deviation, and the strength
of the regularisation is 2^10 as in big_vision: its published scores are of such fits.
(It regularises the bias, too, by l2 / 100^2; as all classes have as many images, that
changes no prediction.)

With `select_l2` the strength is the one of the best accuracy, averaged over the draws,
on training images that were not drawn.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.data import Input, order
from vit_jax.evaluators.features import Features, FrozenFeatures, standardiser
from vit_jax.evaluators.ridge import Ridge
from vit_jax.objectives.objective import Direction
from vit_jax.runtime.errors import UserError

DEFAULT_L2 = 2.0**10
# Values of l2 to choose from, unless the settings give others.
L2 = tuple(2.0**i for i in range(-10, 21, 2))


@dataclasses.dataclass(frozen=True)
class FewShot:
  """`run(params)` gives '<n>shot' for every number of shots.

  With `select_l2`: '<n>shot_selected', and '<n>shot_l2' for what was selected.

  See `evaluator.FeatureEvaluator`.
  """
  section: EvaluatorSection
  train: FrozenFeatures
  test: FrozenFeatures
  key: str = ''

  on_features: ClassVar[bool] = True

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    del config
    return {_metric(section, shots): 'max' for shots in section.shots}

  def run(self, params: Any) -> dict[str, float]:
    """Accuracies on the test split, means over the draws; and l2 if selected."""
    train, test = self.train.of(params), self.test.of(params)
    check_shots(train.labels, self.section, self.train.input)
    measured: dict[str, float] = {}
    for shots in self.section.shots:
      accuracy, l2 = self._accuracy(train, test, shots)
      measured[_metric(self.section, shots)] = accuracy
      if self.section.select_l2:
        measured[f'{shots}shot_l2'] = l2
    skipped = train.skipped + test.skipped
    return measured | ({'skipped_records': skipped} if skipped else {})

  def _accuracy(self, train: Features, test: Features,
                shots: int) -> tuple[float, float]:
    """(mean accuracy over the draws, the l2 that was chosen for all of them)."""
    num_classes = len(self.train.input.class_names)
    candidates = _candidates(self.section)
    held_out_hits = np.zeros(len(candidates), np.int64)
    fitted = []
    for seed in range(self.section.seeds):
      drawn, rest = draw(train.labels, shots, seed)
      standardise = standardiser(train.x[drawn])
      ridge = Ridge(standardise(train.x[drawn]),
                    targets(train.labels[drawn], num_classes))
      fitted.append((standardise, ridge))
      if len(candidates) > 1:
        rest = rest[:self.section.held_out]
        projected = ridge.project(standardise(train.x[rest]))
        held_out_hits += [
            _hits(ridge, projected, train.labels[rest], l2) for l2 in candidates]
    # Of equals the strongest.
    _, l2 = max(zip(held_out_hits, candidates, strict=True))
    hits = sum(_hits(ridge, ridge.project(standardise(test.x)), test.labels, l2)
               for standardise, ridge in fitted)
    return float(hits / (len(test.labels) * len(fitted))), float(l2)


def targets(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """(N, K) with 1 for the class of each example and -1 for the others."""
  return np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)


def draw(labels: np.ndarray, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(examples drawn, all others in random order), indices into `labels` (N,).

  `shots` of each class, as far as there are; fewer shots of the same seed are drawn
  among them. Depends on the labels, shots and seed alone.
  """
  shuffled = order.permutation(len(labels), seed, 0)
  # How many of its class come before each in the shuffled order.
  by_class = np.argsort(labels[shuffled], kind='stable')
  counts = np.bincount(labels)
  first = np.repeat(np.cumsum(counts) - counts, counts)
  rank = np.empty_like(shuffled)
  rank[by_class] = np.arange(len(labels)) - first
  return shuffled[rank < shots], shuffled[rank >= shots]


def check_shots(labels: np.ndarray, section: EvaluatorSection,
                data_input: Input) -> None:
  """Raises UserError if a class has too few examples, or none are left over."""
  num_classes = len(data_input.class_names)
  counts = np.bincount(labels, minlength=num_classes)
  most, where = max(section.shots), f'{data_input.name}[{data_input.split}]'
  short = [f'{data_input.class_names[c]} ({counts[c]})'
           for c in np.flatnonzero(counts < most)]
  advice = (f'Lower shots of evaluator {section.name!r} in config.evaluators, or give '
            'it a larger train_split.')
  if short:
    more = f' and {len(short) - 5} more' if len(short) > 5 else ''
    raise UserError(
        f'Evaluator {section.name!r} draws {most} images per class, but of these '
        f'classes {where} has fewer: {", ".join(short[:5])}{more}. {advice}')
  if len(labels) == most * num_classes and len(_candidates(section)) > 1:
    raise UserError(
        f'Evaluator {section.name!r} draws all {len(labels)} images of {where} and has '
        f'none left to choose l2 on. {advice} Or set select_l2 to False.')


def _metric(section: EvaluatorSection, shots: int) -> str:
  return f'{shots}shot_selected' if section.select_l2 else f'{shots}shot'


def _candidates(section: EvaluatorSection) -> tuple[float, ...]:
  """Several only if l2 is to be selected."""
  return section.l2 or (L2 if section.select_l2 else (DEFAULT_L2,))


def _hits(ridge: Ridge, projected: np.ndarray, labels: np.ndarray, l2: float) -> int:
  """Number of right predictions."""
  return int(np.sum(ridge.predict(projected, l2).argmax(axis=1) == labels))
