"""The pre-training compute of the ViT paper's models, from our own FLOP count.

Table 6 of https://arxiv.org/abs/2010.11929 gives exaFLOPs for pre-training on JFT-300M.
Here they are FLOPs per image x 3 x images seen: a multiply-add is 2 FLOPs, a backward
pass costs twice its forward pass, and an epoch has the 303 million images and images
224 pixels that the paper names.
"""

from collections.abc import Mapping
from typing import Any

from vit_jax.models import variants

JFT_IMAGES = 303e6
JFT_CLASSES = 18_000  # "18k"
_SIZE = (224, 224)
# How the paper's hybrids and its deepest ResNet differ from variants of this library.
_STAGES_4, _STAGES_3 = (3, 4, 6, 3), (3, 4, 9)
_HYBRID_B32 = ('R50+B/16', {'resnet_blocks': _STAGES_4})
_HYBRID_L16 = ('R50+L/32', {'resnet_blocks': _STAGES_3})

# (model as the paper names it, variant, options, epochs, published exaFLOPs). The
# published numbers are from a transcription of it.
ROWS = (
    ('ViT-B/32', 'B/32', {}, 7, 55),
    ('ViT-B/16', 'B/16', {}, 7, 224),
    ('ViT-L/32', 'L/32', {}, 7, 196),
    ('ViT-L/16', 'L/16', {}, 7, 783),
    ('ViT-L/16', 'L/16', {}, 14, 1567),
    ('ViT-H/14', 'H/14', {}, 14, 4262),
    ('ResNet50x1', 'R50x1', {}, 7, 50),
    ('ResNet50x2', 'R50x2', {}, 7, 199),
    ('ResNet101x1', 'R101x1', {}, 7, 96),
    ('ResNet152x1', 'R152x1', {}, 7, 141),
    ('ResNet152x2', 'R152x2', {}, 7, 563),
    ('ResNet152x2', 'R152x2', {}, 14, 1126),
    ('ResNet200x3', 'R152x3', {'resnet_blocks': (3, 24, 36, 3)}, 14, 3306),
    ('R50x1+ViT-B/32', *_HYBRID_B32, 7, 106),
    ('R50x1+ViT-B/16', 'R50+B/16', {}, 7, 274),
    ('R50x1+ViT-L/32', 'R50+L/32', {}, 7, 246),
    ('R50x1+ViT-L/16', *_HYBRID_L16, 7, 859),
    ('R50x1+ViT-L/16', *_HYBRID_L16, 14, 1668),
)


def exaflops(variant: str, options: Mapping[str, Any], epochs: float) -> float:
  """Of pre-training a model on JFT-300M."""
  model = variants.create(variant, JFT_CLASSES, **options)
  return 3 * model.flops(_SIZE) * JFT_IMAGES * epochs / 1e18


def text() -> str:
  """The table, with what the paper prints beside it."""
  lines = [
      'Pre-training on JFT-300M, exaFLOPs = FLOPs per image x 3 x images seen',
      f'(224 pixels, {JFT_IMAGES:,.0f} images an epoch, {JFT_CLASSES:,} classes; a '
      'multiply-add is 2 FLOPs).',
      'Published: table 6 of arXiv 2010.11929, from a transcription.', '',
      f'{"model":<16}{"epochs":>6}{"GFLOPs/image":>14}{"exaFLOPs":>10}'
      f'{"published":>11}{"ratio":>7}']
  for name, variant, options, epochs, published in ROWS:
    found = exaflops(variant, options, epochs)
    per_image = found * 1e9 / (3 * JFT_IMAGES * epochs)
    lines.append(f'{name:<16}{epochs:>6}{per_image:>14.1f}{found:>10.0f}'
                 f'{published:>11}{found / published:>7.2f}')
  return '\n'.join(lines)
