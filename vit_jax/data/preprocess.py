"""Which preprocessing the host does, and which is left to the accelerator.

Decided from metadata alone, so that the step compiles while data are being read.
The fewest pixels win: a CIFAR image at 384x384 leaves the host as 32x32 (3 kB
instead of 442 kB) and is enlarged inside the step.
"""

import dataclasses

from vit_jax.errors import UserError
from vit_jax.sections import PreprocessSection

CROPS = ('none', 'inception', 'random', 'central')
METHODS = ('bilinear', 'bicubic', 'area')


@dataclasses.dataclass(frozen=True)
class Plan:
  """`host` turns an image into `host_size`; then `remaining` into the model input."""
  host: PreprocessSection
  host_size: tuple
  remaining: PreprocessSection


def make_plan(section: PreprocessSection, image_size: tuple, image_shape,
              cached: bool) -> Plan | None:
  """The plan, or None where images to be cached have no fixed size.

  Args:
    section: the preprocessing of a run.
    image_size: (height, width) of the model input.
    image_shape: (height, width, channels) of every decoded image; None: varies.
    cached: decoded once; random crops must then come later. Otherwise decoded
      anew for every batch, and cropped on the way.
  """
  check(section, image_size, image_shape)
  keep = dataclasses.replace(
      section, resize=(), resize_small=0, crop='none', pad=0, flip=False)
  plans = []
  size = tuple(image_shape[:2]) if image_shape else None
  if size:
    plans.append(Plan(keep, size, section))
  if section.resize:
    size = tuple(section.resize)
    rest = dataclasses.replace(section, resize=())
    plans.append(Plan(keep, size, rest))
  if section.resize_small and size:
    host = dataclasses.replace(keep, resize=section.resize)
    rest = dataclasses.replace(section, resize=(), resize_small=0)
    plans.append(Plan(host, small_size(size, section.resize_small), rest))
  if section.crop in ('none', 'central') or not cached:
    host = dataclasses.replace(section, flip=False)
    rest = dataclasses.replace(keep, flip=section.flip)
    plans.append(Plan(host, tuple(image_size), rest))
  # `min` takes the first of equals, the one that leaves most to the accelerator.
  return min(plans, key=lambda p: p.host_size[0] * p.host_size[1], default=None)


def small_size(size: tuple, shorter: int) -> tuple:
  """(h, w) with the shorter side at `shorter` and the aspect ratio kept."""
  h, w = size
  return round(h * shorter / min(h, w)), round(w * shorter / min(h, w))


def check(section: PreprocessSection, image_size: tuple, image_shape=None):
  """Raises UserError for preprocessing that cannot be done."""
  for name, given, known in (('crop', section.crop, CROPS),
                             ('method', section.method, METHODS)):
    if given not in known:
      raise UserError(f'Preprocessing has {name}={given!r}, expected one of: '
                      f'{", ".join(known)}.')
  size = tuple(section.resize) or (tuple(image_shape[:2]) if image_shape else None)
  if section.resize_small and size:
    size = small_size(size, section.resize_small)
  if section.crop not in ('random', 'central') or not size:
    return
  pad = section.pad if section.crop == 'random' else 0
  if any(have + 2 * pad < want for have, want in zip(size, image_size, strict=True)):
    raise UserError(
        f'crop={section.crop!r} to {image_size[0]}x{image_size[1]} needs images of at '
        f'least that size, but they have {size[0]}x{size[1]} at that point (pad: '
        f'{pad}). Set resize or resize_small to a larger size, or lower '
        'config.data.image_size.')
