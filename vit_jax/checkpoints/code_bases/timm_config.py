"""timm's config.json: the model that it and the weights mean, and that of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from vit_jax.checkpoints.code_bases import pixels
from vit_jax.checkpoints.code_bases.interface import (
    Interface,
    of_timm,
    pretrained_cfg,
)
from vit_jax.checkpoints.code_bases.recognition import (
  Contents,
  Detected,
  Shapes,
  checked_heads,
  grid_in_config,
  heads_of_size,
  nonsense_is_an_error,
  size_name,
)
from vit_jax.checkpoints.code_bases.timm_architectures import ARCHITECTURES
from vit_jax.checkpoints.positions import Grid, image_size_of
from vit_jax.config.sections import ModelSection
from vit_jax.models import resnet
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError, warn

# gelu -> timm's act_layer; pool -> its global_pool.
ACT = {'exact': 'gelu', 'tanh': 'gelu_tanh', 'quick': 'quick_gelu'}
POOL = {'token': 'token', 'gap': 'avg', 'map': 'map', 'none': ''}
_GELU = {theirs: ours for ours, theirs in ACT.items()}
_POOLS = {theirs: ours for ours, theirs in POOL.items()}
# Names that timm has registered; `model_args` overrides all sizes in them. B stands
# for what has no name.
_ARCHITECTURES = {
    'Ti': 'vit_tiny_patch16_224', 'S': 'vit_small_patch16_224',
    'B': 'vit_base_patch16_224', 'L': 'vit_large_patch16_224',
    'H': 'vit_huge_patch14_224', 'g': 'vit_giant_patch14_224',
    'G': 'vit_gigantic_patch14_224'}
# (size, blocks of the ResNet) -> name; there the ResNet cannot be overridden.
_HYBRIDS = {
    ('Ti', ()): 'vit_tiny_r_s16_p8_224', ('S', (2, 2, 2, 2)): 'vit_small_r26_s32_224',
    ('B', (3, 4, 9)): 'vit_base_r50_s16_224',
    ('L', (3, 4, 6, 3)): 'vit_large_r50_s32_224'}

# Keys of timm's model_args that the file's shapes or the code below account for, or
# that matter in training only.
_KNOWN = {
    'img_size', 'patch_size', 'num_classes', 'global_pool', 'embed_dim', 'depth',
    'num_heads', 'mlp_ratio', 'qkv_bias', 'qk_norm', 'class_token', 'reg_tokens',
    'no_embed_class', 'init_values', 'act_layer', 'pre_norm', 'fc_norm',
    'pool_include_prefix', 'layers', 'channels', 'stem_chs', 'drop_rate',
    'pos_drop_rate', 'patch_drop_rate', 'proj_drop_rate', 'attn_drop_rate',
    'drop_path_rate', 'weight_init', 'fix_init', 'dynamic_img_size',
    'strict_img_size'}
# Keys that change the model unless they have this value.
_ONLY = {'in_chans': 3, 'pos_embed': 'learn', 'final_norm': True, 'proj_bias': True,
         'dynamic_img_pad': False, 'scale_attn_norm': False, 'scale_mlp_norm': False}


def recognise(contents: Contents, overrides: Mapping[str, Any]) -> Detected | None:
  shapes = Shapes(contents.path, contents.weights)
  if contents.container != 'tensors' or 'patch_embed.proj.weight' not in shapes:
    return None
  with nonsense_is_an_error(contents.path):
    return _detected(contents, shapes, overrides)


def _detected(contents: Contents, shapes: Shapes, overrides: Mapping[str, Any]
              ) -> Detected:
  config = contents.config
  args = config.get('model_args') or {}
  architecture = config.get('architecture', '').split('.')[0]
  _check_architecture(contents, architecture)
  width, _, *patch = shapes.get('patch_embed.proj.weight', 4)
  depth = shapes.count('blocks.')
  mlp_dim = shapes.get('blocks.0.mlp.fc1.weight', 2)[0]
  _check_args(shapes.path, args, patch, width, depth)
  registers = shapes.get('reg_token', 3)[1] if 'reg_token' in shapes else 0
  class_token, hybrid = 'cls_token' in shapes, _resnet(shapes)
  options = {
      'patch_size': tuple(patch), 'width': width, 'depth': depth, 'mlp_dim': mlp_dim,
      'num_heads': overrides.get('num_heads') or _heads(
          shapes, args, architecture, width, depth, mlp_dim),
      'registers': registers, **pixels.in_timm(config),
      'gelu': overrides.get('gelu') or _gelu(shapes.path, args, architecture),
      # timm's CLIP models use PyTorch's own epsilon.
      'layer_norm_eps': ARCHITECTURES.get(architecture, (0, '', 1e-6))[2],
      'qkv_bias': 'blocks.0.attn.qkv.bias' in shapes,
      'qk_norm': 'blocks.0.attn.q_norm.weight' in shapes,
      'layer_scale': (float(args.get('init_values') or 1e-5)
                      if 'blocks.0.ls1.gamma' in shapes else 0.0),
      'pre_norm': 'norm_pre.weight' in shapes,
      'pool_norm': 'fc_norm.weight' in shapes,
      'patch_bias': 'patch_embed.proj.bias' in shapes,
      **_pooling(shapes, config, args, overrides, class_token),
      **hybrid,
  }
  prefix = int(class_token) + registers
  grid = _grid(config, args, hybrid, patch)
  tokens, embedded = _tokens(shapes, args, prefix, grid)
  options['position_prefix'] = 'none'
  if embedded and prefix:
    options['position_prefix'] = 'all' if registers else 'class'
  classes = shapes.get('head.weight', 2)[0] if 'head.weight' in shapes else 0
  return Detected(checked_heads(options), classes, tokens, contents.weights, grid,
                  interface=of_timm(config))


def _check_architecture(contents: Contents, architecture: str) -> None:
  """Raises UserError for a name that is not known to be read rightly."""
  if not architecture or architecture in ARCHITECTURES:
    return
  what = (f'{contents.path}: config.json says architecture {architecture!r}, which is '
          'not among those that were compared with ours')
  if not contents.any_architecture:
    raise UserError(
        f'{what}: it may compute something else from the same parameters. Give '
        '--any_architecture (in Python any_architecture=True) to read it all the '
        'same, and compare its outputs.')
  warn(f'{what}; its outputs may be wrong.')


def _check_args(path: epath.Path, args: Mapping[str, Any], patch: Sequence[int],
                width: int, depth: int) -> None:
  unknown = [f'{key}={value!r}' for key, value in args.items()
             if key not in _KNOWN and value is not None
             and (key not in _ONLY or value != _ONLY[key])]
  if unknown:
    raise UserError(
        f'{path}: model_args in config.json has {", ".join(unknown)}, which is not '
        'supported. Remove what does not change the outputs.')
  given = args.get('patch_size')
  given = [given, given] if isinstance(given, int) else given
  for key, value, stored in (
      ('patch_size', given and list(given), list(patch)),
      ('embed_dim', args.get('embed_dim'), width), ('depth', args.get('depth'), depth)):
    if value is not None and value != stored:
      raise UserError(
          f'{path}: config.json says {key} {value!r}, the weights have {stored!r}. '
          'Give the config.json that belongs to the weights.')


def _heads(shapes: Shapes, args: Mapping[str, Any], architecture: str, width: int,
           depth: int, mlp_dim: int) -> int:
  if 'blocks.0.attn.q_norm.weight' in shapes:
    head_size = shapes.get('blocks.0.attn.q_norm.weight', 1)[0]
    if head_size != width:
      return width // head_size
  if args.get('num_heads'):
    return args['num_heads']
  if architecture in ARCHITECTURES:
    return ARCHITECTURES[architecture][0]
  return heads_of_size(shapes.path, width, depth, mlp_dim)


def _gelu(path: epath.Path, args: Mapping[str, Any], architecture: str) -> str:
  act = args.get('act_layer')
  if act is None:
    return ARCHITECTURES.get(architecture, (0, 'exact'))[1]
  if act not in _GELU:
    raise UserError(
        f'{path}: config.json says act_layer {act!r}; known are '
        f'{", ".join(_GELU)}. Give --gelu=... to choose one of exact, tanh, quick.')
  return _GELU[act]


def _pooling(shapes: Shapes, config: Mapping[str, Any], args: Mapping[str, Any],
             overrides: Mapping[str, Any], class_token: bool) -> dict[str, str]:
  given = args.get('global_pool', config.get('global_pool'))
  options = {}
  if 'attn_pool.latent' in shapes:
    pool = 'map'
  elif 'pool' in overrides:
    pool = overrides['pool']
  elif given is not None:
    if given not in _POOLS or args.get('pool_include_prefix'):
      raise UserError(
          f'{shapes.path}: config.json says global_pool {given!r}'
          f'{" with pool_include_prefix" * bool(args.get("pool_include_prefix"))}; '
          'known are token, avg, map and none, over patches only.')
    pool = _POOLS[given]
  else:
    # Without a config: fc_norm comes with averages, otherwise a class token is used.
    average = 'fc_norm.weight' in shapes or not class_token
    pool = 'gap' if average else 'token'
  if class_token and pool != 'token':
    options['class_token'] = 'yes'
  if not class_token and pool == 'token':
    options['class_token'] = 'no'
  return options | {'pool': pool}


def _resnet(shapes: Shapes) -> dict[str, Any]:
  backbone = 'patch_embed.backbone'
  stages = shapes.count(f'{backbone}.stages.')
  stem = f'{backbone}.stem.conv.weight' if stages else f'{backbone}.conv.weight'
  if stem not in shapes:
    return {}
  return {
      'resnet_width': shapes.get(stem, 4)[0],
      'resnet_blocks': tuple(
          shapes.count(f'{backbone}.stages.{i}.blocks.') for i in range(stages)),
      # timm's own GroupNorm and weight standardisation differ from the original's.
      'group_norm_eps': 1e-5, 'std_conv_eps': 1e-8, 'std_conv_eps_form': 'sqrt'}


def _grid(config: Mapping[str, Any], args: Mapping[str, Any], hybrid: dict[str, Any],
          patch: Sequence[int]) -> Grid | None:
  pretrained = config.get('pretrained_cfg') or {}
  size = args.get('img_size') or pretrained.get('input_size', (0,))[1:] or None
  stride = resnet.stride(ModelSection(**hybrid))
  return grid_in_config(size, [p * stride for p in patch])


def _tokens(shapes: Shapes, args: Mapping[str, Any], prefix: int, grid: Grid | None
            ) -> tuple[int, bool]:
  """(positions of patches, whether the `prefix` tokens before them have some too)."""
  entries = shapes.get('pos_embed', 3)[1]
  rest = entries - prefix
  # Plausible are the config's grid, or a square.
  fits = (rest == grid[0] * grid[1] if grid
          else round(max(rest, 0)**0.5)**2 == rest)
  embedded = not args.get('no_embed_class', not fits)
  return (rest if embedded else entries), embedded


def describe(model: Model, grid: Grid, interface: Interface
             ) -> tuple[dict[str, Any], list[str]]:
  """(config.json of a model that the format holds, what it cannot say).

  Args:
    model: the ViT.
    grid: (h, w) patches.
    interface: its classes and images.
  """
  options = model.options
  size = image_size_of(model, grid)
  name, args = _architecture(model)
  seen, missing = pretrained_cfg(interface, size)
  names = list(interface.class_names)
  config = {
      'architecture': name,
      'num_classes': model.num_classes,
      'num_features': options.width,
      'global_pool': POOL[options.pool],
      **({'label_names': names} if names else {}),
      'model_args': _model_args(model, list(size)) | args,
      'pretrained_cfg': {
          'input_size': [3, *size], 'fixed_input_size': True,
          'mean': list(options.pixel_mean), 'std': list(options.pixel_std),
          'num_classes': model.num_classes, **seen,
          'first_conv': 'patch_embed.proj', 'classifier': 'head'},
  }
  return config, missing


def _model_args(model: Model, size: list[int]) -> dict[str, Any]:
  options = model.options
  height, width = options.patch_size
  prefix = model.has_class_token or options.registers
  return {
      'patch_size': height if height == width else [height, width],
      'embed_dim': options.width, 'depth': options.depth,
      'num_heads': options.num_heads,
      'mlp_ratio': mlp_ratio(options.width, options.mlp_dim),
      'qkv_bias': options.qkv_bias, 'qk_norm': options.qk_norm,
      'class_token': model.has_class_token, 'reg_tokens': options.registers,
      'global_pool': POOL[options.pool], 'fc_norm': options.pool_norm,
      'pre_norm': options.pre_norm,
      'no_embed_class': bool(prefix) and options.position_prefix == 'none',
      'init_values': options.layer_scale or None, 'act_layer': ACT[options.gelu],
      'num_classes': model.num_classes, 'img_size': size,
  }


def _architecture(model: Model) -> tuple[str, dict[str, Any]]:
  """(name of the architecture, further arguments) of a model."""
  options, size = model.options, size_name(model)
  hybrid = _HYBRIDS.get((size, tuple(options.resnet_blocks)))
  if options.resnet_width == 64 and hybrid:
    return hybrid, {}
  args, w = {}, options.resnet_width
  if w:
    args = {'layers': list(options.resnet_blocks), 'stem_chs': w,
            'channels': [w * 4 * 2**b for b in range(len(options.resnet_blocks))]}
  return _ARCHITECTURES.get(size, _ARCHITECTURES['B']), args


def mlp_ratio(width: int, mlp_dim: int) -> float:
  """Of an MLP's width, as timm takes it: int(width * ratio)."""
  # Rounding can make it one too small.
  ratio = mlp_dim / width
  exact = int(width * ratio) == mlp_dim
  return ratio if exact else (mlp_dim + 0.5) / width
