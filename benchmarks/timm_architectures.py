"""Which of timm's ViT-like architectures we read: a table from its own modules.

In an environment with torch, torchvision and timm:

  python benchmarks/timm_architectures.py

Every architecture is made on PyTorch's meta device, without memory. One is good if all
of its modules are those that our model computes too; what its name alone says of it
(heads, GELU, epsilon) is written down, as the table in
vit_jax/checkpoints/code_bases/timm_architectures.py has it. The others, with the first
reason against each, go to the standard error.
"""

import sys
import textwrap

import reference_pixels  # noqa: F401
import timm
import torch
from timm.layers import Mlp, PatchEmbed
from timm.models import vision_transformer as vit
from timm.models.vision_transformer_hybrid import HybridEmbed
from torch import nn

_GELU = {'GELU': 'exact', 'GELUTanh': 'tanh', 'QuickGELU': 'quick'}
_FILTERS = ('vit*', 'deit*', 'eva*', 'flexivit*', 'beit*', 'samvit*', 'test_vit*')


def reason_against(model: nn.Module) -> str:
  """The first thing in a model that we don't compute; '' if there is none."""
  if type(model) is not vit.VisionTransformer:
    return f'class {type(model).__name__}'
  if getattr(model, 'rope', None) is not None or model.pos_embed is None:
    return 'positions'
  if type(model.patch_embed) not in (PatchEmbed, HybridEmbed):
    return f'patches {type(model.patch_embed).__name__}'
  if isinstance(model.patch_embed, HybridEmbed):
    backbone = type(model.patch_embed.backbone).__name__
    convolutions = {type(x).__name__ for x in model.patch_embed.modules()
                    if isinstance(x, nn.Conv2d)}
    if convolutions != {'StdConv2dSame', 'Conv2d'}:
      return f'ResNet {backbone} of {", ".join(sorted(convolutions))}'
  elif not isinstance(model.patch_embed.norm, nn.Identity):
    return 'a norm in the patch embedding'
  for block in model.blocks:
    if type(block) is not vit.Block:
      return f'block {type(block).__name__}'
    attention = block.attn
    if type(attention) is not vit.Attention:
      return f'attention {type(attention).__name__}'
    if type(block.mlp) is not Mlp or type(block.mlp.act).__name__ not in _GELU:
      return f'MLP {type(block.mlp).__name__} {type(block.mlp.act).__name__}'
    for name, module in (('attention', getattr(attention, 'norm', nn.Identity())),
                         ('MLP', block.mlp.norm)):
      if not isinstance(module, nn.Identity):
        return f'a norm in the {name}'
    if attention.num_heads * attention.head_dim != model.embed_dim:
      return 'heads that do not divide the width'
    if abs(attention.scale - attention.head_dim**-0.5) > 1e-9:
      return 'scale of the attention'
  norms = [x for x in model.modules() if 'Norm' in type(x).__name__
           and 'GroupNorm' not in type(x).__name__]
  if not all(isinstance(x, nn.LayerNorm) for x in norms):
    return f'norm {next(type(x) for x in norms if not isinstance(x, nn.LayerNorm))}'
  if len({x.eps for x in norms}) > 1:
    return f'epsilons {sorted({x.eps for x in norms})}'
  if len({(b.attn.num_heads, type(b.mlp.act).__name__) for b in model.blocks}) > 1:
    return 'blocks of several kinds'
  if model.attn_pool is not None and (
      model.attn_pool.num_heads != model.blocks[0].attn.num_heads
      or type(model.attn_pool.mlp.act) is not type(model.blocks[0].mlp.act)):
    return 'attention pooling of another kind'
  if model.pool_include_prefix:
    return 'pooling with prefix tokens'
  return ''


def main() -> None:
  names = sorted({name for pattern in _FILTERS for name in timm.list_models(pattern)})
  good, others = {}, []
  for name in names:
    try:
      with torch.device('meta'):
        model = timm.create_model(name).eval()
    except Exception as e:
      others.append(f'{name}: {type(e).__name__} {str(e)[:60]}')
      continue
    if reason := reason_against(model):
      others.append(f'{name}: {reason}')
      continue
    block = model.blocks[0]
    good[name] = (block.attn.num_heads, _GELU[type(block.mlp.act).__name__],
                  block.norm1.eps)
  rows: dict[tuple[int, str, float], list[str]] = {}
  for name, row in good.items():
    rows.setdefault(row, []).append(name)
  print('_NAMES = {')
  for row in sorted(rows):
    print(f"    {row}: '''")
    print(textwrap.fill(' '.join(rows[row]), 84, initial_indent=' ' * 8,
                        subsequent_indent=' ' * 8, break_on_hyphens=False),
          end="''',\n")
  print('}')
  print(f'timm {timm.__version__}: {len(good)} good, {len(others)} others',
        *others, sep='\n', file=sys.stderr)


if __name__ == '__main__':
  main()
