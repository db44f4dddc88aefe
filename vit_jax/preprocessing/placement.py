"""Which preprocessing the host does, and which is left to the accelerator.

Decided from metadata alone, so that the step compiles while data are being read.
The fewest pixels win: a CIFAR image at 384x384 leaves the host as 32x32 (3 kB
instead of 442 kB) and is enlarged inside the step. RandAugment comes after the crop
and needs the host, which then does everything up to there.
"""

import dataclasses

from vit_jax.config.sections import PreprocessSection
from vit_jax.config.settings import check_values
from vit_jax.runtime.errors import UserError

# What the accelerator alone does.
_LATE = dict(jitter=(), greyscale=0.0, erase=0.0)


@dataclasses.dataclass(frozen=True)
class Plan:
  """`host` turns an image into `host_size`; then `remaining` into the model input."""
  host: PreprocessSection
  host_size: tuple
  remaining: PreprocessSection


def make_plan(section: PreprocessSection, image_size: tuple, image_shape,
              cached: bool) -> Plan | None:
  """The plan, or None where images cannot be cached; `why_not_cached` says why.

  Args:
    section: the preprocessing of a run.
    image_size: (height, width) of the model input.
    image_shape: (height, width, channels) of every decoded image; None: varies.
    cached: decoded once; random crops must then come later. Otherwise decoded
      anew for every batch, and cropped on the way.
  """
  check(section, image_size, image_shape)
  early = dataclasses.replace(section, **_LATE)
  late = dataclasses.replace(section, resize=(), resize_small=0, crop='none', pad=0)
  if section.randaugment_layers:
    late = dataclasses.replace(late, flip=False, randaugment_layers=0)
    return None if cached else Plan(early, tuple(image_size), late)
  early = dataclasses.replace(early, flip=False)
  keep = dataclasses.replace(early, resize=(), resize_small=0, crop='none', pad=0)
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
    plans.append(Plan(early, tuple(image_size), late))
  # `min` takes the first of equals, the one that leaves most to the accelerator.
  return min(plans, key=lambda p: p.host_size[0] * p.host_size[1], default=None)


def why_not_cached(section: PreprocessSection) -> str:
  """Why `make_plan` found no way to cache, and what to do about it."""
  if section.randaugment_layers:
    return ('config.data.train.randaugment_layers is '
            f'{section.randaugment_layers}, and RandAugment makes new images each '
            "time. Use cache='auto' or 'never', or set it to 0.")
  return ("the images have no fixed size before their random crop. Use cache='auto', "
          'or set config.data.train.resize to give them one.')


def random_settings(section: PreprocessSection) -> dict:
  """{name: value} of the settings that make the preprocessing random."""
  names = ('flip', 'randaugment_layers', 'jitter', 'greyscale', 'erase')
  found = {name: getattr(section, name) for name in names if getattr(section, name)}
  if section.crop in ('random', 'inception'):
    found['crop'] = section.crop
  return found


def check_eval(section: PreprocessSection):
  """Raises UserError unless the preprocessing is the same each time."""
  found = random_settings(section)
  if found:
    given = ', '.join(f'{name}={value!r}' for name, value in found.items())
    raise UserError(
        f'config.data.eval has {given}; expected nothing random: a crop of none or '
        'central, and none of the other augmentations. Set them in config.data.train.')


def small_size(size: tuple, shorter: int) -> tuple:
  """(h, w) with the shorter side at `shorter` and the aspect ratio kept."""
  h, w = size
  return round(h * shorter / min(h, w)), round(w * shorter / min(h, w))


def check(section: PreprocessSection, image_size: tuple, image_shape=None):
  """Raises UserError for preprocessing that cannot be done."""
  check_values(section, 'data.train.')
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
