"""Measurements of a model's parameters: `run(params) -> {name: value}`.

The `kind` of one of `config.evaluators` names a row of the table below, or
'package.module:name' of the user's own, a class as `evaluator` describes it.
`suite.open_suite` makes those of a run.
"""

from typing import TYPE_CHECKING

from vit_jax.runtime import named_objects

if TYPE_CHECKING:
  from vit_jax.evaluators.evaluator import FeatureEvaluator, HeadEvaluator

KINDS = {
    'classify': 'vit_jax.evaluators.classify:Classify',
    'label_map': 'vit_jax.evaluators.label_map:LabelMapEvaluator',
    'fewshot': 'vit_jax.evaluators.fewshot:FewShot',
    'probe': 'vit_jax.evaluators.probe:LinearProbe',
    'knn': 'vit_jax.evaluators.neighbours:Neighbours',
}


def find(kind: str, key: str = 'kind') -> 'type[HeadEvaluator | FeatureEvaluator]':
  """The class of a kind.

  Args:
    kind: a row of `KINDS`, or 'package.module:name'.
    key: the setting that it comes from, for messages.

  Raises:
    UserError: if there is none, or it is no evaluator.
  """
  # Here because it imports JAX, and the table alone should not.
  from vit_jax.evaluators.evaluator import Evaluator
  found = named_objects.find(key, kind, KINDS)
  named_objects.check_members(key, kind, found, Evaluator)
  return found
