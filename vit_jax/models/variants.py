"""Named model sizes, and from a name or a config section to a model."""

import dataclasses
import difflib
import re

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError
from vit_jax.models import vit
from vit_jax.sections import ModelSection

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
_SIZE_FIELDS = ('width', 'depth', 'mlp_dim', 'num_heads')

CHOICES = {
    'pool': ('token', 'gap', 'map', 'none'),
    'position_embedding': ('learned', 'sincos2d'),
    'gelu': ('tanh', 'exact'),
    'remat': ('none', *vit.REMAT_POLICIES),
    'projection': ('auto', '2d', '3d'),
}
_DTYPES = ('float32', 'bfloat16', 'float16', 'float64')


def decode(variant: str) -> dict:
  """Sizes of '<size>/<patch>' or '<size>/<height>x<width>': fields of a `ViT`."""
  size, slash, patch = variant.partition('/')
  match = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', patch)
  if size not in SIZES or not match:
    raise UserError(
        f'Unknown model variant {variant!r}: expected <size>/<patch> with a size from '
        f'{", ".join(SIZES)} and a patch such as 16 or 16x8 (height x width). '
        f'Did you mean {_nearest_variant(size, match and slash + patch)!r}?')
  height = int(match[1])
  return dict(zip(_SIZE_FIELDS, SIZES[size], strict=True)) | {
      'patch_size': (height, int(match[2] or height))}


def create(variant: str, num_classes: int, **options) -> vit.ViT:
  """A `ViT` from a name such as 'B/16'; '' takes every size from the options.

  Args:
    variant: see `decode`.
    num_classes: width of the head; 0 for a model without head.
    **options: further fields of `ViT`; they also replace the variant's sizes. dtype
      and param_dtype are names or dtypes; dtype 'auto' asks JAX for its backend.

  Raises:
    UserError: for an unknown name, or sizes that don't fit together.
  """
  fields = {} if variant == '' else decode(variant)
  fields |= options | {'num_classes': num_classes}
  _check_names(fields)
  if isinstance(fields['patch_size'], int):
    fields['patch_size'] = (fields['patch_size'],) * 2
  fields['patch_size'] = tuple(fields['patch_size'])
  if fields.get('dtype') == 'auto':
    fields['dtype'] = _auto_dtype(jax.default_backend())
  for name in ('dtype', 'param_dtype'):
    fields[name] = _dtype(name, fields.get(name, 'float32'))
  model = vit.ViT(**fields)
  _check_values(model)
  return model


def from_section(section: ModelSection, num_classes: int, platform: str) -> vit.ViT:
  """The model of a configuration; `platform` ('tpu', 'gpu', 'cpu') settles 'auto'."""
  options = dataclasses.asdict(section)
  variant = options.pop('variant')
  for name in (*_SIZE_FIELDS, 'patch_size'):
    if not options[name]:
      del options[name]
  if options['dtype'] == 'auto':
    options['dtype'] = _auto_dtype(platform)
  return create(variant, num_classes, **options)


def _auto_dtype(platform: str) -> str:
  # bfloat16 on a CPU is slower than float32, by 1.4 to 1.5 times on an EPYC.
  return 'float32' if platform == 'cpu' else 'bfloat16'


def _dtype(name, value):
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    dtype = None
  if dtype is None or dtype.name not in _DTYPES:
    raise UserError(
        f'model {name} is {value!r}; expected one of {", ".join(_DTYPES)}'
        f'{" or auto" if name == "dtype" else ""}.')
  return dtype


def _check_names(fields):
  known = [f.name for f in dataclasses.fields(vit.ViT) if f.name not in (
      'parent', 'name')]
  for name in fields:
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
      raise UserError(
          f'Unknown model option {name!r}: did you mean {near!r}? '
          f'All options: {", ".join(known)}.')
  missing = [n for n in (*_SIZE_FIELDS, 'patch_size') if n not in fields]
  if missing:
    raise UserError(
        f'A model without a variant needs its sizes; missing: {", ".join(missing)}. '
        "Set them, or name a variant such as 'B/16'.")


def _check_values(model):
  """Raises a UserError for the first option that is impossible."""
  def require(condition, name, expected):
    if not condition:
      raise UserError(
          f'model {name} is {getattr(model, name)!r}; expected {expected}.')

  for name, choices in CHOICES.items():
    require(getattr(model, name) in choices, name, 'one of ' + ', '.join(choices))
  for name in _SIZE_FIELDS:
    require(_is_whole(getattr(model, name), 1), name, 'a positive whole number')
  for name in ('num_classes', 'representation_size', 'registers'):
    require(_is_whole(getattr(model, name), 0), name, 'a whole number, 0 for none')
  for name in ('dropout', 'attention_dropout', 'stochastic_depth'):
    require(0 <= getattr(model, name) < 1, name, 'a rate in [0, 1)')
  require(model.layer_norm_eps > 0, 'layer_norm_eps', 'a positive number')
  require(
      len(model.patch_size) == 2 and all(_is_whole(x, 1) for x in model.patch_size),
      'patch_size', 'two positive whole numbers, (height, width)')
  require(
      model.width % model.num_heads == 0, 'width',
      f'a multiple of num_heads = {model.num_heads}; change one of them')
  require(
      model.position_embedding != 'sincos2d' or model.width % 4 == 0, 'width',
      "a multiple of 4 for position_embedding 'sincos2d'; change it, or use 'learned'")


def _is_whole(value, least):
  return isinstance(value, int) and value >= least


def _nearest_variant(size, patch):
  near = difflib.get_close_matches(size, SIZES, n=1, cutoff=0.5)
  # Case decides between g and G, so it is ignored only when nothing is close.
  near += [s for s in SIZES if s.lower() == size.lower()]
  # 'ViT-B', 'vit_base': a size's name, or the first letter of its word.
  word = re.sub(r'(?i)^vit[-_ ]?', '', size)
  near += [s for s in SIZES if word.lower().startswith(s.lower())]
  return (near + ['B'])[0] + (patch or '/16')
