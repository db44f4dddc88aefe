"""Named models, and from a name or a config section to a model."""

import dataclasses
import difflib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import declared
from vit_jax.models import bit, mixer, options, vit
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

# (width, depth, MLP width, heads). Ti to H: https://arxiv.org/abs/2010.11929 and
# https://arxiv.org/abs/2106.10270; g and G: https://arxiv.org/abs/2106.04560; e:
# https://arxiv.org/abs/2209.06794; So400m: https://arxiv.org/abs/2305.13035; g-opt:
# https://arxiv.org/abs/2502.14786; M and G-opt: named in the big_vision code base.
SIZES = {
    'mu': (32, 1, 128, 2),  # for tests
    'Ti': (192, 12, 768, 3),
    'S': (384, 12, 1536, 6),
    'M': (512, 12, 2048, 8),
    'B': (768, 12, 3072, 12),
    'L': (1024, 24, 4096, 16),
    'So400m': (1152, 27, 4304, 16),
    'H': (1280, 32, 5120, 16),
    'g': (1408, 40, 6144, 16),
    'g-opt': (1536, 40, 6144, 16),
    'G': (1664, 48, 8192, 16),
    'G-opt': (1536, 48, 8192, 16),
    'e': (1792, 56, 15360, 16),
}
# ViTs on the feature map of a ResNet: (size, units per block, patch of features). The
# names tell the pixels per token, except that the 8 x 8 patches of the first are of
# features a quarter of the image's size: 32 pixels. https://arxiv.org/abs/2106.10270.
HYBRIDS = {
    'R+Ti/16': ('Ti', (), 8),
    'R26+S/32': ('S', (2, 2, 2, 2), 1),
    'R26+B/32': ('B', (2, 2, 2, 2), 1),
    'R50+B/16': ('B', (3, 4, 9), 1),
    'R50+L/32': ('L', (3, 4, 6, 3), 1),
}
_SIZE_FIELDS = ('width', 'depth', 'mlp_dim', 'num_heads')


def _decode_vit(variant: str) -> dict[str, Any] | None:
  """Options of '<size>/<patch>' or '<size>/<height>x<width>', or None."""
  size, _, patch = variant.partition('/')
  match = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', patch)
  if size not in SIZES or not match:
    return None
  height = int(match[1])
  return dict(zip(_SIZE_FIELDS, SIZES[size], strict=True)) | {
      'patch_size': (height, int(match[2] or height))}


def _decode_hybrid(variant: str) -> dict[str, Any] | None:
  if variant not in HYBRIDS:
    return None
  size, units, patch = HYBRIDS[variant]
  return dict(zip(_SIZE_FIELDS, SIZES[size], strict=True)) | {
      'patch_size': (patch, patch), 'resnet_width': 64, 'resnet_blocks': units}


class Family(NamedTuple):
  """A kind of name."""
  cls: type[Model]
  decode: Callable[[str], dict[str, Any] | None]  # its options; None: another kind
  form: str
  examples: tuple[str, ...]


FAMILIES = (
    Family(vit.ViT, _decode_vit,
           f'<size>/<patch> with a size from {", ".join(SIZES)} and a patch such as 16 '
           'or 16x8 (height x width)', ('B/16',)),
    Family(vit.ViT, _decode_hybrid, f'one of {", ".join(HYBRIDS)}', tuple(HYBRIDS)),
    Family(mixer.Mixer, mixer.decode,
           f'Mixer-<size>/<patch> with a size from {", ".join(mixer.SIZES)}',
           tuple(f'Mixer-{size}/{patch}'
                 for size in mixer.SIZES for patch in (16, 32))),
    Family(bit.BiT, bit.decode,
           'R<depth>x<width factor>, with -v1 for post-activation, and a depth from '
           f'{", ".join(map(str, bit.DEPTHS))}',
           ('R50x1', 'R50x3', 'R101x1', 'R101x3', 'R152x2', 'R152x4')),
)
# Class -> a name of it, to which options give all sizes.
OF_CLASS = {
    **{family.cls.__name__: family.examples[0] for family in FAMILIES}, 'ViT': ''}


def create(variant: str, num_classes: int, **given: Any) -> Model:
  """A model from a name such as 'B/16'; '' is a `ViT` that the options define.

  Args:
    variant: see `FAMILIES`; the name also settles the class of the model.
    num_classes: width of the head; 0 for a model without head.
    **given: options of the class, see `ModelSection`; they also replace the variant's
      own. dtype and param_dtype are names or dtypes; dtype 'auto' asks JAX for its
      backend. A ResNet's `version` replaces that of its name.

  Raises:
    UserError: for an unknown name, or sizes that don't fit together.
  """
  cls, fields = _find(variant)
  if cls is bit.BiT and 'version' in given:
    variant = bit.in_version(variant, given.pop('version'))
  fields = fields | given
  options.check_names(cls, fields)
  if not variant:
    _check_sizes(fields)
  if 'patch_size' in fields:
    patch = fields['patch_size']
    fields['patch_size'] = (patch, patch) if isinstance(patch, int) else tuple(patch)
  if 'resnet_blocks' in fields:
    fields['resnet_blocks'] = tuple(fields['resnet_blocks'])
  for name in ('pixel_mean', 'pixel_std'):
    fields[name] = _of_channels(fields.get(name, ()))
  if fields.get('dtype') == 'auto':
    fields['dtype'] = _auto_dtype(jax.default_backend())
  for name in ('dtype', 'param_dtype'):
    fields[name] = _dtype_name(name, fields.get(name, 'float32'))
  model = cls(ModelSection(variant=variant, **fields), num_classes)
  options.check_values(model)
  return model


def from_section(section: ModelSection, num_classes: int, platform: str) -> Model:
  """The model of a configuration; `platform` ('tpu', 'gpu', 'cpu') settles 'auto'."""
  given = dataclasses.asdict(section)
  variant = given.pop('variant')
  known, defaults = _find(variant)[0].OPTIONS, dataclasses.asdict(ModelSection())
  for name, setting in declared(ModelSection).items():
    if given.get(name) == defaults[name] and (
        setting.from_variant or name not in known):
      del given[name]
  if given['dtype'] == 'auto':
    given['dtype'] = _auto_dtype(platform)
  # By the TPU compiler's estimates a step of S/16 on v5e:4x4 takes 35.3 ms with '2d',
  # 30.0 ms if only q, k and v have dims as they are, 26.8 ms if the MLP has, too.
  if platform == 'tpu' and given.get('projection') == 'auto':
    given['projection'] = '3d'
  return create(variant, num_classes, **given)


def _check_sizes(given: dict[str, Any]) -> None:
  """Raises a UserError unless all sizes of a ViT without a name are given."""
  missing = [name for name in ('patch_size', *_SIZE_FIELDS) if name not in given]
  if missing:
    raise UserError(
        f'A model without a variant needs its sizes; missing: {", ".join(missing)}. '
        "Set them, or name a variant such as 'B/16'.")


def _of_channels(given: Any) -> Any:
  """A tuple of one number per channel; one number stands for all, () for 0.5."""
  if isinstance(given, int | float):
    return (given,) * 3
  return tuple(given) or (0.5,) * 3


def _auto_dtype(platform: str) -> str:
  # bfloat16 on a CPU is slower than float32, by 1.4 to 1.5 times on an EPYC.
  return 'float32' if platform == 'cpu' else 'bfloat16'


def _dtype_name(name: str, value: Any) -> str:
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    dtype = None
  names = declared(ModelSection)['param_dtype'].choices
  if dtype is None or dtype.name not in names:
    raise UserError(
        f'model {name} is {value!r}; expected one of {", ".join(names)}'
        f'{" or auto" if name == "dtype" else ""}.')
  return dtype.name


def _find(variant: str) -> tuple[type[Model], dict[str, Any]]:
  """(class, options) of a name; '' settles none."""
  if not variant:
    return vit.ViT, {}
  for family in FAMILIES:
    fields = family.decode(variant)
    if fields is not None:
      return family.cls, fields
  forms = '; or '.join(family.form for family in FAMILIES)
  raise UserError(
      f'Unknown model variant {variant!r}: did you mean {_nearest(variant)!r}? '
      f'Expected {forms}.')


def _nearest(variant: str) -> str:
  if re.search(r'(?i)[+]|mixer|\bbit|resnet|^r\d', variant):
    names = [name for family in FAMILIES[1:] for name in family.examples]
    lower = {name.lower(): name for name in names}
    return lower[difflib.get_close_matches(variant.lower(), lower, n=1, cutoff=0)[0]]
  size, slash, patch = variant.partition('/')
  known_patch = re.fullmatch(r'[1-9]\d*(x[1-9]\d*)?', patch)
  near = difflib.get_close_matches(size, SIZES, n=1, cutoff=0.5)
  # Case decides between g and G, so it is ignored only when nothing is close.
  near += [s for s in SIZES if s.lower() == size.lower()]
  # 'ViT-B', 'vit_base': a size's name, or the first letter of its word.
  word = re.sub(r'(?i)^vit[-_ ]?', '', size)
  near += [s for s in SIZES if word.lower().startswith(s.lower())]
  return (near + ['B'])[0] + (slash + patch if known_patch else '/16')
