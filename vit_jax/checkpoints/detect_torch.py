"""The model in a file with Hugging Face's or timm's names."""

import re

from vit_jax.checkpoints import hf_names
from vit_jax.checkpoints.detect import Detected, Shapes, heads_of_size
from vit_jax.config.sections import ModelSection
from vit_jax.models import resnet, variants
from vit_jax.runtime.errors import UserError

# timm's act_layer -> gelu.
_TIMM_ACT = {'gelu': 'exact', 'gelu_tanh': 'tanh', 'quick_gelu': 'quick'}
# timm's published SigLIP models that compute the tanh form; the others compute the
# exact one although they were trained with tanh.
_TANH_SIGLIP = re.compile(
    r'vit_(base_patch32|large_patch16|so400m_patch16|giantopt_patch16)_siglip'
    r'(_gap)?_(256|512|384)')
_POOLS = {'token': 'token', 'avg': 'gap', 'map': 'map', '': 'none'}

# Keys of timm's model_args that the file's shapes or the code below account for, or
# that matter in training only.
_TIMM_KNOWN = {
    'img_size', 'patch_size', 'num_classes', 'global_pool', 'embed_dim', 'depth',
    'num_heads', 'mlp_ratio', 'qkv_bias', 'qk_norm', 'class_token', 'reg_tokens',
    'no_embed_class', 'init_values', 'act_layer', 'pre_norm', 'fc_norm',
    'pool_include_prefix', 'layers', 'channels', 'stem_chs', 'drop_rate',
    'pos_drop_rate', 'patch_drop_rate', 'proj_drop_rate', 'attn_drop_rate',
    'drop_path_rate', 'weight_init', 'fix_init', 'dynamic_img_size',
    'strict_img_size'}
# Keys that change the model unless they have this value.
_TIMM_ONLY = {'in_chans': 3, 'pos_embed': 'learn', 'final_norm': True,
              'proj_bias': True, 'dynamic_img_pad': False, 'scale_attn_norm': False,
              'scale_mlp_norm': False}


def is_hugging_face(shapes: Shapes) -> bool:
  return any(name.removeprefix('vit.') ==
             'embeddings.patch_embeddings.projection.weight' for name in shapes)


def is_timm(shapes: Shapes) -> bool:
  return 'patch_embed.proj.weight' in shapes


def detect(shapes: Shapes, config: dict, overrides: dict) -> Detected | None:
  """The model, or None if the names are those of another code base."""
  if is_hugging_face(shapes):
    detected = hugging_face(shapes, config, overrides)
  elif is_timm(shapes):
    detected = timm(shapes, config, overrides)
  else:
    return None
  heads = detected.options['num_heads']
  if not isinstance(heads, int) or heads < 1:
    raise ValueError(f'the number of heads is {heads!r}')
  return detected


def hugging_face(shapes: Shapes, config: dict, overrides: dict) -> Detected:
  """The model of ViTModel or ViTForImageClassification.

  Args:
    shapes: names and shapes of the file.
    config: its config.json; {} if there is none.
    overrides: explicit settings.
  """
  kind = config.get('model_type', 'vit')
  if kind != 'vit':
    raise UserError(
        f"{shapes.path}: config.json says model_type {kind!r}; expected 'vit'. Other "
        'architectures are not supported.')
  prefix = 'vit.' if 'vit.embeddings.cls_token' in shapes else ''
  version5 = f'{prefix}layers.0.layernorm_before.weight' in shapes
  block = f'{prefix}layers' if version5 else f'{prefix}encoder.layer'
  width, _, *patch = shapes.get(
      f'{prefix}embeddings.patch_embeddings.projection.weight', 4)
  depth = shapes.count(f'{block}.')
  mlp_dim = shapes.get(
      f'{block}.0.{"mlp.fc1" if version5 else "intermediate.dense"}.weight', 2)[0]
  query = 'attention.q_proj' if version5 else 'attention.attention.query'
  act = config.get('hidden_act', 'gelu')
  if act not in hf_names.GELU and 'gelu' not in overrides:
    raise UserError(
        f'{shapes.path}: config.json says hidden_act {act!r}; known are '
        f'{", ".join(hf_names.GELU)}. Give --gelu=... to choose one of exact, tanh, '
        'quick.')
  pooler = 'pooler.dense.weight'
  options = {
      'patch_size': tuple(patch), 'width': width, 'depth': depth, 'mlp_dim': mlp_dim,
      'num_heads': (overrides.get('num_heads') or config.get('num_attention_heads')
                    or heads_of_size(shapes.path, width, depth, mlp_dim)),
      'pool': 'token', 'gelu': hf_names.GELU.get(act, 'exact'),
      'layer_norm_eps': float(config.get('layer_norm_eps', 1e-12)),
      'qkv_bias': f'{block}.0.{query}.bias' in shapes,
      'representation_size': shapes.get(pooler, 2)[0] if pooler in shapes else 0,
  }
  if pooler in shapes and config.get('pooler_act', 'tanh') != 'tanh':
    raise UserError(
        f'{shapes.path}: config.json says pooler_act {config["pooler_act"]!r}; only '
        'tanh is supported.')
  head = 'classifier.weight'
  classes = shapes.get(head, 2)[0] if head in shapes else 0
  tokens = shapes.get(f'{prefix}embeddings.position_embeddings', 3)[1] - 1
  return Detected(
      'hugging_face_5' if version5 else 'hugging_face', options, classes, tokens,
      _grid(config.get('image_size'), patch))


def timm(shapes: Shapes, config: dict, overrides: dict) -> Detected:
  """The model of timm's VisionTransformer; arguments as above."""
  args = config.get('model_args') or {}
  pretrained = config.get('pretrained_cfg') or {}
  architecture = config.get('architecture', '')
  width, _, *patch = shapes.get('patch_embed.proj.weight', 4)
  depth = shapes.count('blocks.')
  mlp_dim = shapes.get('blocks.0.mlp.fc1.weight', 2)[0]
  _check_timm_args(shapes.path, args, patch, width, depth)
  registers = shapes.get('reg_token', 3)[1] if 'reg_token' in shapes else 0
  class_token = 'cls_token' in shapes
  options = {
      'patch_size': tuple(patch), 'width': width, 'depth': depth, 'mlp_dim': mlp_dim,
      'num_heads': overrides.get('num_heads') or _timm_heads(
          shapes, args, architecture, width, depth, mlp_dim),
      'registers': registers,
      'gelu': overrides.get('gelu') or _timm_gelu(shapes.path, args, architecture),
      # timm's CLIP models use PyTorch's own epsilon.
      'layer_norm_eps': 1e-5 if '_clip_' in architecture else 1e-6,
      'qkv_bias': 'blocks.0.attn.qkv.bias' in shapes,
      'qk_norm': 'blocks.0.attn.q_norm.weight' in shapes,
      'layer_scale': (float(args.get('init_values') or 1e-5)
                      if 'blocks.0.ls1.gamma' in shapes else 0.0),
      'pre_norm': 'norm_pre.weight' in shapes,
      'pool_norm': 'fc_norm.weight' in shapes,
      'patch_bias': 'patch_embed.proj.bias' in shapes,
      **_timm_pool(shapes, config, args, overrides, class_token),
      **_timm_resnet(shapes),
  }
  entries = shapes.get('pos_embed', 3)[1]
  prefix = int(class_token) + registers
  size = args.get('img_size') or pretrained.get('input_size', (0,))[1:] or None
  stride = resnet.stride(ModelSection(**_timm_resnet(shapes)))
  grid = _grid(size, [p * stride for p in patch])
  embedded = not args.get('no_embed_class', not _fits(entries - prefix, grid))
  options['position_prefix'] = 'none'
  if embedded and prefix:
    options['position_prefix'] = 'all' if registers else 'class'
  tokens = entries - prefix if embedded else entries
  classes = shapes.get('head.weight', 2)[0] if 'head.weight' in shapes else 0
  return Detected('timm', options, classes, tokens, grid)


def _check_timm_args(path, args, patch, width, depth):
  unknown = [f'{key}={value!r}' for key, value in args.items()
             if key not in _TIMM_KNOWN and value is not None
             and (key not in _TIMM_ONLY or value != _TIMM_ONLY[key])]
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


def _fits(tokens, grid):
  """Whether that many positions are plausible: the config's grid, or a square."""
  if grid:
    return tokens == grid[0] * grid[1]
  return round(max(tokens, 0)**0.5)**2 == tokens


def _timm_heads(shapes, args, architecture, width, depth, mlp_dim):
  if 'blocks.0.attn.q_norm.weight' in shapes:
    head_size = shapes.get('blocks.0.attn.q_norm.weight', 1)[0]
    if head_size != width:
      return width // head_size
  if args.get('num_heads'):
    return args['num_heads']
  if architecture and (width, depth) in {
      (w, d) for w, d, _, _ in variants.SIZES.values()} and width % 64 == 0:
    # Named architectures of these widths have 64 channels a head, up to L.
    rows = {n for w, d, _, n in variants.SIZES.values() if (w, d) == (width, depth)}
    if len(rows) == 1:
      return rows.pop()
  return heads_of_size(shapes.path, width, depth, mlp_dim)


def _timm_gelu(path, args, architecture):
  act = args.get('act_layer')
  if act is None:
    if 'quickgelu' in architecture:
      return 'quick'
    return 'tanh' if _TANH_SIGLIP.match(architecture) else 'exact'
  if act not in _TIMM_ACT:
    raise UserError(
        f'{path}: config.json says act_layer {act!r}; known are '
        f'{", ".join(_TIMM_ACT)}. Give --gelu=... to choose one of exact, tanh, quick.')
  return _TIMM_ACT[act]


def _timm_pool(shapes, config, args, overrides, class_token):
  given = args.get('global_pool', config.get('global_pool'))
  if 'attn_pool.latent' in shapes:
    pool, options = 'map', {}
  elif 'pool' in overrides:
    pool, options = overrides['pool'], {}
  elif given is not None:
    if given not in _POOLS or args.get('pool_include_prefix'):
      raise UserError(
          f'{shapes.path}: config.json says global_pool {given!r}'
          f'{" with pool_include_prefix" * bool(args.get("pool_include_prefix"))}; '
          'known are token, avg, map and none, over patches only.')
    pool, options = _POOLS[given], {}
  else:
    # Without a config: fc_norm comes with averages, otherwise a class token is used.
    average = 'fc_norm.weight' in shapes or not class_token
    pool, options = 'gap' if average else 'token', {}
  if class_token and pool != 'token':
    options['class_token'] = 'yes'
  if not class_token and pool == 'token':
    options['class_token'] = 'no'
  return options | {'pool': pool}


def _timm_resnet(shapes):
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


def _grid(image_size, stride):
  if not image_size:
    return None
  if isinstance(image_size, int):
    image_size = (image_size, image_size)
  return tuple(size // s for size, s in zip(image_size, stride, strict=True))
