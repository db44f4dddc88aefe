"""The code bases whose checkpoints are read and written, in one table."""

import dataclasses
from collections.abc import Callable

from vit_jax.checkpoints import hf_names, jax_names, timm_names


@dataclasses.dataclass(frozen=True)
class World:
  """How one code base names its parameters, and how it resizes positions."""
  title: str
  # (model, {our name: shape}) -> links; raises a UserError if it can't hold the model.
  read: Callable
  write: Callable | None
  position_resize: str  # see `resize_positions.METHODS`


WORLDS = {
    'vision_transformer': World(
        "vision_transformer's npz", jax_names.linen, jax_names.vision_transformer,
        'original'),
    'big_vision': World(
        "big_vision's npz", jax_names.big_vision, jax_names.big_vision, 'original'),
    'hugging_face': World(
        'Hugging Face ViT', hf_names.links, hf_names.links, 'hf'),
    # Names that transformers 5 has in memory and writes only on request.
    'hugging_face_5': World(
        'Hugging Face ViT (names of transformers 5)', hf_names.links_version5, None,
        'hf'),
    'timm': World('timm VisionTransformer', timm_names.links, timm_names.links, 'timm'),
    'vit_jax': World('vit_jax', jax_names.own, jax_names.own, 'original'),
}

# What --to and the Python API call a format -> world.
FORMATS = {
    'npz': 'vision_transformer', 'big_vision': 'big_vision', 'hf': 'hugging_face',
    'timm': 'timm', 'orbax': 'vit_jax'}
