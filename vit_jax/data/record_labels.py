"""The label of a TFDS record: one of its features, or what a rule makes of several."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection
from vit_jax.data import builders, class_names, labels, record_features
from vit_jax.data.record_features import Feature, Record
from vit_jax.runtime.errors import DataError, UserError


class RecordLabels(Protocol):
  """What reads the labels of records; see `open_labels`."""

  class_names: list[str]

  def read(self, record: Record) -> int | list[int]:
    """The class of a record, or several where `config.data.max_labels` allows it.

    Raises:
      DataError: where the record has no label.
    """
    ...


class FeatureLabels:
  """The feature `config.data.label_key`: a class, or a sequence of classes."""

  def __init__(self, builder: str, data: DataSection, feature: Feature | None,
               known: str) -> None:
    """`feature` is that feature, or None; `known` describes the data set's.

    `builder` is the name of the TFDS builder.
    """
    self._key = data.label_key
    self._many = data.max_labels > 0
    single = _checked_class_label(data, feature, known)
    self.class_names = class_names.readable(builder, self._key, single.names)

  def read(self, record: Record) -> int | list[int]:
    """See `RecordLabels`; a list where `config.data.max_labels` is set."""
    values = record_features.numbers(record, self._key)
    if self._many:
      return list(values)
    if len(values) != 1:
      raise DataError(
          f'it has {len(values)} values of {self._key}, expected one; prepare the '
          'data set again.')
    return values[0]


class RuleLabels:
  """What the rule `config.data.label_rule` computes."""

  def __init__(self, name: str, data: DataSection,
               specs: Mapping[str, tfds.features.TensorInfo]) -> None:
    """`specs`: see `record_features.flat_specs`."""
    self._name = data.label_rule
    rule = labels.find(data.label_rule)
    missing = [key for key in rule.features if key not in specs]
    if missing:
      raise UserError(
          f'config.data.label_rule={data.label_rule!r} reads {", ".join(missing)}, '
          f'which {name} does not have; it has {", ".join(specs)}. Choose the rule '
          'that belongs to the data set.')
    self._rule = rule
    self._specs = {key: specs[key] for key in rule.features}
    self.class_names = list(rule.class_names)

  def read(self, record: Record) -> int | list[int]:
    """See `RecordLabels`."""
    values = {key: record_features.read(record, key, spec)
              for key, spec in self._specs.items()}
    try:
      return self._rule.label(values)
    except ValueError as e:
      raise DataError(f'no label by the rule {self._name}: {e}.') from e


def open_labels(builder: tfds.core.DatasetBuilder, data: DataSection) -> RecordLabels:
  """What reads the labels of a builder's records; raises UserError for bad keys."""
  if data.label_rule:
    specs = record_features.flat_specs(builders.features(builder))
    return RuleLabels(data.name, data, specs)
  flat = record_features.flat_features(builders.features(builder))
  valid = [key for key, feature in flat.items() if _class_label(feature)]
  known = (f'Expected one of: {", ".join(valid) or "(there are none)"}. Its features '
           f'are: {", ".join(flat)}.')
  return FeatureLabels(builder.name, data, flat.get(data.label_key), known)


def _checked_class_label(data: DataSection, feature: Feature | None, known: str
                         ) -> tfds.features.ClassLabel:
  """As `_class_label`; raises UserError unless the settings suit the feature."""
  key, single = data.label_key, _class_label(feature)
  if single is None:
    number = ('' if not _is_integer(feature) else
              'Nothing says how many classes its integers stand for: give it a '
              'config.data.label_rule that does. ')
    raise UserError(
        f'config.data.label_key={key!r} does not name class labels of {data.name}. '
        f'{number}{known}')
  if single is not feature and not data.max_labels:
    raise UserError(
        f'{key} of {data.name} holds any number of classes for each image. Set '
        'config.data.max_labels to the largest number of them, or choose another '
        'config.data.label_key.')
  return single


def _class_label(feature: Feature | None) -> tfds.features.ClassLabel | None:
  """The ClassLabel that a feature is, or is a sequence of; else None."""
  if isinstance(feature, tfds.features.Sequence):
    feature = feature.feature
  return feature if isinstance(feature, tfds.features.ClassLabel) else None


def _is_integer(feature: Feature | None) -> bool:
  if not isinstance(feature, tfds.features.Tensor):
    return False
  dtype: Any = feature.np_dtype
  return np.dtype(dtype).kind in 'iu'
