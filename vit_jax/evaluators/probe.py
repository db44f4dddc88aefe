"""Linear probe: multinomial logistic regression on frozen features.

Solved with scikit-learn's L-BFGS on the host, in float64. An iteration costs about
4 N D C operations (N images, D features, C classes), and the features take 8 N D bytes:
4e12 and 8 GB for ImageNet and ViT-B, times some hundred iterations, times the
candidates for l2. For such data give a part of the training split and a single l2, or
use few-shot accuracy.
"""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.data import Input, order
from vit_jax.evaluators.features import FrozenFeatures, standardiser
from vit_jax.objectives.objective import Direction
from vit_jax.runtime.errors import UserError

if TYPE_CHECKING:
  from sklearn.linear_model import LogisticRegression

# Values of l2 to choose from, unless the settings give others.
L2 = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
# Share of the training examples that is held out to choose on, at most.
_HELD_OUT_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class LinearProbe:
  """`run(params)` gives 'accuracy', the 'l2' that was chosen and 'iterations'.

  See `evaluator.FeatureEvaluator`.
  """
  section: EvaluatorSection
  train: FrozenFeatures
  test: FrozenFeatures
  key: str = ''

  on_features: ClassVar[bool] = True

  @staticmethod
  def metrics(config: Config, section: EvaluatorSection) -> Mapping[str, Direction]:
    del config, section
    return {'accuracy': 'max'}

  def run(self, params: Any) -> dict[str, float]:
    """Accuracy on the test split, after a fit on the whole training split.

    'iterations' equal to `max_iter` mean that the fit did not converge.
    """
    train, test = self.train.of(params), self.test.of(params)
    _check_classes(train.labels, self.section, self.train.input)
    standardise = standardiser(train.x)
    x = standardise(train.x)
    l2 = self._choose(x, train.labels)
    classifier = fit(x, train.labels, [l2], self.section.max_iter)[0]
    hits = classifier.predict(standardise(test.x)) == test.labels
    measured = {'accuracy': float(np.mean(hits)), 'l2': float(l2),
                'iterations': float(classifier.n_iter_[0])}
    skipped = train.skipped + test.skipped
    return measured | ({'skipped_records': skipped} if skipped else {})

  def _choose(self, x: np.ndarray, labels: np.ndarray) -> float:
    """The l2 of the best accuracy on examples held out of the training split."""
    candidates = sorted(self.section.l2 or L2, reverse=True)
    if len(candidates) == 1:
      return candidates[0]
    shuffled = order.permutation(len(labels), 0, 0)
    count = min(self.section.held_out, max(1, int(_HELD_OUT_SHARE * len(labels))))
    held_out, rest = shuffled[:count], shuffled[count:]
    classifiers = fit(x[rest], labels[rest], candidates, self.section.max_iter)
    hits = [np.sum(c.predict(x[held_out]) == labels[held_out]) for c in classifiers]
    # `max` takes the first of equals, which is the strongest.
    return max(zip(hits, candidates, strict=True), key=lambda pair: pair[0])[1]


def fit(x: np.ndarray, labels: np.ndarray, l2_values: Sequence[float],
        max_iter: int) -> 'list[LogisticRegression]':
  """A classifier for every l2, each found from the solution of the one before.

  Minimises the sum of the cross-entropies + l2 / 2 |W|^2; the bias is free.
  """
  # Here because scikit-learn takes a second to import.
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression
  classifier = LogisticRegression(max_iter=max_iter, tol=1e-6, warm_start=True)
  fitted = []
  for l2 in l2_values:
    classifier.C = 1 / l2
    with warnings.catch_warnings():
      # Told by the number of iterations instead.
      warnings.simplefilter('ignore', ConvergenceWarning)
      classifier.fit(x, labels)
    fitted.append(copy.copy(classifier))
  return fitted


def _check_classes(labels: np.ndarray, section: EvaluatorSection,
                   data_input: Input) -> None:
  if len(np.unique(labels)) < 2:
    raise UserError(
        f'Evaluator {section.name!r} needs images of at least two classes, but '
        f'{data_input.name}[{data_input.split}] has {len(labels)} of one; give it '
        'another train_split in config.evaluators.')
