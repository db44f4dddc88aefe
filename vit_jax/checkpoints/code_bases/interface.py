"""What belongs to weights besides the model: their classes, and how images are made.

Both libraries resize with antialiasing, as Pillow does, and round the longer side down
where the aspect ratio is kept. What they cannot say is told when a model is converted.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.config.sections import PreprocessSection

Size = tuple[int, int]  # (height, width)

# Our method of resizing -> Pillow's number of it, timm's name of it.
_RESAMPLE = {'bilinear': 2, 'bicubic': 3, 'area': 4}
_INTERPOLATION = {'bilinear': 'bilinear', 'bicubic': 'bicubic', 'area': 'box'}
_OF_RESAMPLE = {number: name for name, number in _RESAMPLE.items()}
_OF_INTERPOLATION = {name: ours for ours, name in _INTERPOLATION.items()}
# Where nothing is known: vision_transformer's resize, as these libraries do it.
_USUAL = PreprocessSection(antialias=True)
_NO_NAME = re.compile(r'LABEL_\d+')


@dataclasses.dataclass(frozen=True)
class Interface:
  """Names of the classes, and what evaluations did to images."""
  class_names: tuple[str, ...] = ()  # (): unknown
  preprocess: PreprocessSection | None = None  # None: unknown


def of_hugging_face(config: Mapping[str, Any], preprocessor: Mapping[str, Any]
                    ) -> Interface:
  """Of a config.json and a preprocessor_config.json."""
  names = config.get('id2label') or {}
  ordered = tuple(str(names[key]) for key in sorted(names, key=int))
  if all(map(_NO_NAME.fullmatch, ordered)):
    ordered = ()
  return Interface(ordered, _of_processor(preprocessor))


def of_timm(config: Mapping[str, Any]) -> Interface:
  """Of timm's config.json."""
  said = config.get('pretrained_cfg') or {}
  names = config.get('label_names') or said.get('label_names') or ()
  if isinstance(names, Mapping):
    names = [names[key] for key in sorted(names, key=int)]
  return Interface(tuple(map(str, names)), _of_pretrained_cfg(said))


def _of_processor(said: Mapping[str, Any]) -> PreprocessSection | None:
  size, method = said.get('size'), _OF_RESAMPLE.get(said.get('resample', 2))
  if not isinstance(size, Mapping) or method is None or not said.get('do_resize', True):
    return None
  crop = said.get('crop_size') if said.get('do_center_crop') else None
  crop = {'height': crop, 'width': crop} if isinstance(crop, int) else crop
  if {'height', 'width'} <= size.keys():
    before = (int(size['height']), int(size['width']))
    return _both_sides(
        before, (int(crop['height']), int(crop['width'])) if crop else before, method)
  if 'shortest_edge' not in size or not crop:
    return None
  return PreprocessSection(resize_small=int(size['shortest_edge']), crop='central',
                           method=method, antialias=True)


def _both_sides(before: Size, size: Size, method: str) -> PreprocessSection:
  """A resize of both sides, and the middle of that."""
  if before == size:
    return PreprocessSection(method=method, antialias=True)
  return PreprocessSection(
      resize=before, crop='central', method=method, antialias=True)


def _of_pretrained_cfg(said: Mapping[str, Any]) -> PreprocessSection | None:
  method = _OF_INTERPOLATION.get(said.get('interpolation', 'bicubic'))
  mode = said.get('crop_mode') or 'center'
  size: tuple[int, ...] = tuple(said.get('input_size') or ())[1:]
  if method is None or mode not in ('center', 'squash') or len(size) != 2:
    return None
  share = float(said.get('crop_pct') or 0.875)
  before = tuple(math.floor(side / share) for side in size)
  if mode == 'squash':
    return _both_sides(before, size, method)
  if before[0] != before[1]:
    return None
  return PreprocessSection(
      resize_small=before[0], crop='central', method=method, antialias=True)


def processor(interface: Interface, size: Size) -> tuple[dict[str, Any], list[str]]:
  """(part of preprocessor_config.json, what it cannot say)."""
  preprocess = interface.preprocess or _USUAL
  missing, before = _before_crop(preprocess, size)
  said: dict[str, Any] = {
      'do_resize': True, 'resample': _RESAMPLE[preprocess.method]}
  said['size'] = ({'shortest_edge': before} if isinstance(before, int)
                  else {'height': before[0], 'width': before[1]})
  if preprocess.crop == 'central':
    said |= {'do_center_crop': True,
             'crop_size': {'height': size[0], 'width': size[1]}}
  return said, missing


def pretrained_cfg(interface: Interface, size: Size
                   ) -> tuple[dict[str, Any], list[str]]:
  """(part of timm's pretrained_cfg, what it cannot say)."""
  preprocess = interface.preprocess or _USUAL
  missing, before = _before_crop(preprocess, size)
  mode = 'center' if isinstance(before, int) else 'squash'
  wanted = (before, before) if isinstance(before, int) else before
  share = _crop_share(size, wanted)
  if share is None:
    share = size[0] / wanted[0]
    missing.append(f'a resize to {wanted} before a crop of {size}')
  elif mode == 'center' and size[0] != size[1]:
    missing.append('resizing the shorter side for a crop that is no square')
  return {'interpolation': _INTERPOLATION[preprocess.method], 'crop_pct': share,
          'crop_mode': mode}, missing


def _before_crop(preprocess: PreprocessSection, size: Size
                 ) -> tuple[list[str], int | Size]:
  """(what no library can say, size before the crop: the shorter side's, or both)."""
  missing = []
  if not preprocess.antialias:
    missing.append('resizing without antialiasing (data.eval.antialias=False)')
  steps = [bool(preprocess.resize), bool(preprocess.resize_small),
           preprocess.crop != 'central']
  if sum(steps) > 1:
    missing.append('more than one resize')
  if preprocess.crop != 'central':
    return missing, size
  if preprocess.resize_small:
    return missing, preprocess.resize_small
  if preprocess.resize:
    return missing, _pair(preprocess.resize)
  missing.append('a crop without a resize before it')
  return missing, size


def _crop_share(size: Size, before: Size) -> float | None:
  """The crop_pct with which timm comes from `size` to `before`; None: there is none."""
  for share in (size[0] / before[0], size[0] / (before[0] + 0.5)):
    if share <= 1 and tuple(math.floor(side / share) for side in size) == before:
      return share
  return None


def _pair(size: Sequence[int]) -> Size:
  height, width = size if len(size) == 2 else (*size, *size)
  return height, width
