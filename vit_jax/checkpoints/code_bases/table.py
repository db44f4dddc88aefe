"""The code bases whose checkpoints are read and written, in one table."""

from vit_jax.checkpoints.code_bases import (
  big_vision,
  hugging_face,
  own,
  timm,
  vision_transformer,
)
from vit_jax.checkpoints.code_bases.code_base import CodeBase, Interpolation
from vit_jax.runtime.errors import UserError

CODE_BASES: dict[str, CodeBase] = {
    'vision_transformer': vision_transformer.CODE_BASE,
    'big_vision': big_vision.CODE_BASE,
    'hugging_face': hugging_face.CODE_BASE,
    'hugging_face_5': hugging_face.CODE_BASE_5,
    'timm': timm.CODE_BASE,
    'vit_jax': own.CODE_BASE,
}

# What --to and the Python API call a format.
FORMATS = {base.format: base for base in CODE_BASES.values() if base.format}

# What position_resize can be.
POSITION_RESIZES: dict[str, Interpolation] = {
    name: matrix for base in CODE_BASES.values()
    for name, matrix in base.position_resizes.items()}


def position_resize(method: str) -> Interpolation:
  """The method of a name; raises UserError if there is none."""
  if method not in POSITION_RESIZES:
    raise UserError(
        f'position_resize is {method!r}; expected one of '
        f'{", ".join(POSITION_RESIZES)}.')
  return POSITION_RESIZES[method]
