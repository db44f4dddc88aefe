"""Which preprocessing the host does, and which is left to the accelerator.

Decided from metadata alone, so that the step compiles while data are being read. The
host does the first operations, the accelerator the others. They are divided where an
image has the fewest pixels: a CIFAR image at 384x384 leaves the host as 32x32 (3 kB
instead of 442 kB) and is enlarged inside the step. RandAugment comes after the crop
and needs the host, which then does everything up to there.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from vit_jax.config.sections import PreprocessSection
from vit_jax.config.settings import check_values
from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Operation:
  """A step of the preprocessing.

  Attributes:
    side: which side can do it.
    is_random: value of its setting -> whether it does something else each time.
  """
  side: Literal['host', 'device', 'either']
  is_random: Callable[[Any], bool]


def _never(value: Any) -> bool:
  del value
  return False


# The operations in their order, by the setting that turns each on; the defaults of
# `PreprocessSection` turn all of them off. What the host alone does comes before what
# the accelerator alone does.
OPERATIONS = {
    'resize': Operation('either', _never),
    'resize_small': Operation('either', _never),
    'crop': Operation('either', lambda crop: crop in ('random', 'inception')),
    'flip': Operation('either', bool),
    'randaugment_layers': Operation('host', bool),
    'jitter': Operation('device', bool),
    'greyscale': Operation('device', bool),
    'erase': Operation('device', bool),
}
_OFF = PreprocessSection()


@dataclasses.dataclass(frozen=True)
class Placement:
  """`host` turns an image into `host_size`; then `remaining` into the model input."""
  host: PreprocessSection
  host_size: tuple[int, int]
  remaining: PreprocessSection


def place_streamed(section: PreprocessSection, image_size: Sequence[int],
                   image_shape: Sequence[int] | None) -> Placement:
  """Of images that are decoded anew for every batch, and cropped on the way.

  Args:
    section: the preprocessing of a run.
    image_size: (height, width) of the model input.
    image_shape: (height, width, channels) of every decoded image; None: varies.

  Raises:
    UserError: for preprocessing that cannot be done.
  """
  return min(_possible(section, image_size, image_shape), key=_pixels)


def place_cached(section: PreprocessSection, image_size: Sequence[int],
                 image_shape: Sequence[int] | None) -> Placement | None:
  """As `place_streamed`, of images that are decoded once: what is random comes later.

  None where that can't be; `why_not_cached` says why.
  """
  fixed = [placement for placement in _possible(section, image_size, image_shape)
           if not random_settings(placement.host)]
  return min(fixed, key=_pixels, default=None)


def _pixels(placement: Placement) -> int:
  # `min` takes the first of equals, the one that leaves most to the accelerator.
  return placement.host_size[0] * placement.host_size[1]


def _possible(section: PreprocessSection, image_size: Sequence[int],
              image_shape: Sequence[int] | None) -> list[Placement]:
  check_values(section, 'data.train.')
  check_crop(section, image_size, image_shape)
  divided = [_divided(section, count, image_size, image_shape)
             for count in range(len(OPERATIONS) + 1)]
  return [placement for placement in divided if placement]


def _divided(section: PreprocessSection, count: int, image_size: Sequence[int],
             image_shape: Sequence[int] | None) -> Placement | None:
  """The placement whose host does the first `count` operations, if that can be."""
  names = tuple(OPERATIONS)
  host, remaining = _without(section, names[count:]), _without(section, names[:count])
  if _names_on(host, 'device') or _names_on(remaining, 'host'):
    return None
  if 'crop' in names[:count]:
    return Placement(host, _pair(image_size), remaining)
  size = _resized(host, image_shape)
  if not size:
    return None
  # The last resize of the host is the one to `host_size`.
  host = _without(host, ['resize_small' if host.resize_small else 'resize'])
  return Placement(host, size, remaining)


def _without(section: PreprocessSection, names: Sequence[str]) -> PreprocessSection:
  return dataclasses.replace(section, **{name: getattr(_OFF, name) for name in names})


def _names_on(section: PreprocessSection, side: str) -> list[str]:
  """The operations that are on and that this side alone can do."""
  return [name for name, operation in OPERATIONS.items()
          if operation.side == side and getattr(section, name) != getattr(_OFF, name)]


def _resized(section: PreprocessSection,
             image_shape: Sequence[int] | None) -> tuple[int, int] | None:
  """(height, width) of images after both resizes; None: varies."""
  size = section.resize or image_shape
  if not size:
    return None
  return (small_size(size, section.resize_small) if section.resize_small
          else _pair(size))


def _pair(size: Sequence[int]) -> tuple[int, int]:
  return size[0], size[1]


def why_not_cached(section: PreprocessSection) -> str:
  """Why `place_cached` found no way, and what to do about it."""
  if section.randaugment_layers:
    return ('config.data.train.randaugment_layers is '
            f'{section.randaugment_layers}, and RandAugment makes new images each '
            "time. Use cache='auto' or 'never', or set it to 0.")
  return ("the images have no fixed size before their random crop. Use cache='auto', "
          'or set config.data.train.resize to give them one.')


def small_size(size: Sequence[int], shorter: int) -> tuple[int, int]:
  """(h, w) with the shorter side at `shorter` and the aspect ratio kept."""
  h, w = size[:2]
  return round(h * shorter / min(h, w)), round(w * shorter / min(h, w))


def random_settings(section: PreprocessSection) -> dict[str, Any]:
  """{name: value} of the settings that make the preprocessing random."""
  values = {name: getattr(section, name) for name in OPERATIONS}
  return {name: value for name, value in values.items()
          if OPERATIONS[name].is_random(value)}


def check_not_random(section: PreprocessSection) -> None:
  """Raises UserError unless `config.data.eval` does the same each time."""
  found = random_settings(section)
  if found:
    given = ', '.join(f'{name}={value!r}' for name, value in found.items())
    raise UserError(
        f'config.data.eval has {given}; expected nothing random: a crop of none or '
        'central, and none of the other augmentations. Set them in config.data.train.')


def check_crop(section: PreprocessSection, image_size: Sequence[int],
               image_shape: Sequence[int] | None) -> None:
  """Raises UserError for a crop that is larger than its image, as far as is known."""
  size = _resized(section, image_shape)
  if section.crop not in ('random', 'central') or not size:
    return
  pad = section.pad if section.crop == 'random' else 0
  if any(have + 2 * pad < want for have, want in zip(size, image_size, strict=True)):
    raise UserError(
        f'crop={section.crop!r} to {image_size[0]}x{image_size[1]} needs images of at '
        f'least that size, but they have {size[0]}x{size[1]} at that point (pad: '
        f'{pad}). Set resize or resize_small to a larger size, or lower '
        'config.data.image_size.')
