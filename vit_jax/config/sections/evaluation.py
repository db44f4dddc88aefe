"""Settings of the evaluations beside those of the validation and test splits."""

import dataclasses
from typing import Any

from vit_jax.config.settings import above, at_least, numbers, setting


def _of_data_set(default: str | int, help: str, **known: object) -> Any:
  """Replaces a setting of `data`, unless it is '' or 0."""
  return setting(default, help, of_data_set=True, **known)


@dataclasses.dataclass(frozen=True)
class EvaluatorSection:
  """One more evaluation, beside those of `data.val_split` and `data.test_split`."""
  name: str = setting('', "Names the results, such as 'real' in 'real/accuracy'.")
  kind: str = setting(
      'classify', "'classify' (the model's own head), 'label_map' (the same on classes "
      "that correspond to sets of the model's), or on frozen features: 'fewshot' "
      "(least squares on a few images per class), 'probe' (logistic regression), "
      "'knn'; or 'package.module:name' of one's own, see "
      'vit_jax/evaluators/evaluator.py.')
  every: int = setting(
      1, 'Only at every n-th evaluation of a training, and at its end.', rule=above(0))
  batch_size: int = setting(
      0, 'Global batch; 0: `eval_batch_size`.', rule=at_least(0))
  data: str = setting(
      '', 'Another data set as in `data.name`, whose keys and splits have their '
      "defaults unless given here; '': that of the run.")
  dir: str = setting('', "Its directory; '': that of the run.")
  image_key: str = _of_data_set('', 'As in `data`.')
  label_key: str = _of_data_set('', 'As in `data`.')
  label_rule: str = _of_data_set('', 'As in `data`.')
  max_labels: int = _of_data_set(0, 'As in `data`.', rule=at_least(0))
  pixel_factor: int = _of_data_set(0, 'As in `data`.', rule=at_least(0))
  train_split: str = _of_data_set(
      '', "As in `data`; of frozen features, as 'classify' does not train.")
  test_split: str = _of_data_set('', 'As in `data`.')
  label_map: str = setting(
      '', "'label_map': a JSON file, {class of the data: [numbers of the model's]}.")
  restrict_classes: bool = setting(
      False, "'label_map': predict among the classes of the map alone.")
  layer: str = setting(
      'pre_logits', 'Which intermediate of the model the features are; tokens are '
      'averaged.')
  shots: tuple = setting(
      (1, 5, 10, 25), "'fewshot': images per class.",
      rule=numbers(whole=True, empty=False))
  seeds: int = setting(
      3, "'fewshot': how many draws of the images are averaged.", rule=above(0))
  l2: tuple = setting(
      (), "'fewshot', 'probe': strengths of the regularisation to choose from; (): "
      "those of the kind, see vit_jax/evaluators/. 'fewshot' has a single one, 1024, "
      'unless `select_l2`.', rule=numbers())
  select_l2: bool = setting(
      False, "'fewshot': choose among `l2` on training images that were not drawn; its "
      "results are '5shot_selected'.")
  held_out: int = setting(
      5000, "'fewshot', 'probe': how many training images choose among them, at most.",
      rule=above(0))
  max_iter: int = setting(
      1000, "'probe': iterations of L-BFGS, at most.", rule=above(0))
  k: int = setting(20, "'knn': neighbours that vote.", rule=above(0))
  temperature: float = setting(
      0.07, "'knn': temperature of the votes' weights.", rule=above(0))
