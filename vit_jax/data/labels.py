"""Labels that are computed from other features of a record.

`config.data.label_rule` names a row of LABEL_RULES, or a rule of the user's own as
'package.module:name': a `LabelRule`, or a function without arguments that returns
one.

The five rules here are those of the VTAB benchmark (https://arxiv.org/abs/1910.04867
and its code, google-research/task_adaptation), in float32 as there: at a threshold
such as 8.5 another precision would give another class.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vit_jax.runtime import named_objects
from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class LabelRule:
  """How records become labels.

  Attributes:
    class_names: names of the classes, in the order of their numbers.
    features: what the rule reads, named as in the records: 'objects/type'.
    label: `{feature: array} -> int`, an index into `class_names`, or several of them
      where `config.data.max_labels` allows it. Arrays have the shape that TFDS gives
      the feature: (n, 3) for n objects with 3 coordinates, () for a number, and nested
      lists where rows differ in length. A ValueError of the function is reported with
      the record that it was about.
  """
  class_names: tuple[str, ...]
  features: tuple[str, ...]
  label: Callable[[dict[str, Any]], int | list[int]]


def _names_of_bins(what: str, numbers: int, bin_of: Callable[[int], int]
                   ) -> tuple[str, ...]:
  """'what 0-2' and so on: which raw numbers each bin holds."""
  bins = {}
  for n in range(numbers):
    bins.setdefault(bin_of(n), []).append(n)
  return tuple(f'{what} {members[0]}-{members[-1]}'
               for _, members in sorted(bins.items()))


def _nearest(distances: np.ndarray, thresholds: Sequence[float]) -> int:
  # Class i reaches up to and including threshold i.
  ends = np.asarray(thresholds, np.float32)
  return int(np.searchsorted(ends, distances.min(), side='left'))


def _clevr_count(record: dict[str, Any]) -> int:
  # Scenes have 3 to 10 objects.
  return len(record['objects/size']) - 3


_CLEVR_DISTANCES = (8, 8.5, 9, 9.5, 10)


def _clevr_distance(record: dict[str, Any]) -> int:
  # The third pixel coordinate is the depth.
  depths = np.asarray(record['objects/pixel_coords'], np.float32)[:, 2]
  if not depths.size:
    raise ValueError('the scene has no objects, so there is no nearest one')
  return _nearest(depths, _CLEVR_DISTANCES)


_KITTI_METRES = (8, 20, 999)


def _kitti_distance(record: dict[str, Any]) -> int:
  # Types 0 to 2 are cars, vans and trucks; the third coordinate of a location is
  # the distance in metres along the camera's axis. 1000 m stands for no vehicle.
  vehicles = np.asarray(record['objects/type']) < 3
  locations = np.asarray(record['objects/location'], np.float32)
  return _nearest(np.append(locations[vehicles, 2], np.float32(1000)), _KITTI_METRES)


def _x_position_bin(x: float) -> int:
  return int(np.floor(np.float32(x) / np.float32(2)))


def _orientation_bin(orientation: float) -> int:
  return int(np.floor(np.float32(orientation) / np.float32(2.5)))


LABEL_RULES = {
    'clevr_count': LabelRule(
        tuple(f'{n} objects' for n in range(3, 11)), ('objects/size',), _clevr_count),
    'clevr_distance': LabelRule(
        ('nearest object up to 8',
         *(f'nearest object {a} to {b}'
           for a, b in zip(_CLEVR_DISTANCES, _CLEVR_DISTANCES[1:], strict=False)),
         'nearest object beyond 10'),
        ('objects/pixel_coords',), _clevr_distance),
    'kitti_distance': LabelRule(
        ('nearest vehicle up to 8 m', 'nearest vehicle 8 to 20 m',
         'nearest vehicle beyond 20 m', 'no vehicle'),
        ('objects/type', 'objects/location'), _kitti_distance),
    'dsprites_x_position': LabelRule(
        _names_of_bins('x position', 32, _x_position_bin), ('label_x_position',),
        lambda record: _x_position_bin(record['label_x_position'])),
    'dsprites_orientation': LabelRule(
        _names_of_bins('orientation', 40, _orientation_bin), ('label_orientation',),
        lambda record: _orientation_bin(record['label_orientation'])),
}


def find(name: str) -> LabelRule:
  """The rule that `config.data.label_rule` names; raises UserError for no rule."""
  found = named_objects.find('data.label_rule', name, LABEL_RULES)
  rule = found() if callable(found) else found
  if not isinstance(rule, LabelRule):
    raise UserError(
        f'config.data.label_rule={name!r} is a {type(rule).__name__}, expected a '
        'vit_jax.data.labels.LabelRule or a function that returns one.')
  return rule
