"""The two tables of sharding rules: every parameter once, the right dim divided."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax.config.sections import MeshSection
from vit_jax.models import layout, variants
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel import rules
from vit_jax.runtime.errors import UserError
from vit_jax.training import state as state_lib

TINY = dict(patch_size=(4, 4), width=32, depth=2, mlp_dim=64, num_heads=4)
MODELS = {
    'token': dict(TINY, pool='token', representation_size=16),
    'gap': dict(TINY, pool='gap', position_embedding='sincos2d'),
    'map': dict(TINY, pool='map', registers=3),
    'none': dict(TINY, pool='none'),
    'scan': dict(TINY, pool='token', scan=True, layer_scale=0.1),
    'options': dict(
        TINY, pool='gap', pool_norm=True, class_token='yes', registers=1, pre_norm=True,
        qk_norm=True, layer_scale=0.1),
    'hybrid': dict(TINY, patch_size=(1, 1), resnet_width=32, resnet_blocks=(1, 1)),
    'mixer': dict(variant='Mixer-B/4', width=32, depth=2),
    'bit': dict(variant='R50x1', resnet_blocks=(2, 1)),
    'resnet': dict(variant='R50x1-v1', resnet_blocks=(2, 1)),
}


def _params(variant='', **options):
  model = variants.create(variant, 10, **options)
  return jax.eval_shape(
      lambda key: layout.init(model, key, (16, 16)), jax.random.key(0))


def _shardings(params, mesh):
  """Those of the parameters in a state."""
  state = jax.eval_shape(
      lambda p: state_lib.create(p, optax.identity(), ema=False), params)
  return rules.state_shardings(state, mesh).params


def _names(params):
  return {rules.path_name(path): x for path, x
          in jax.tree_util.tree_leaves_with_path(params)}


@pytest.mark.parametrize('name', MODELS)
def test_every_parameter_has_exactly_one_row(name):
  for path, x in _names(_params(**MODELS[name])).items():
    dims = rules.logical_dims(path, len(x.shape))
    assert set(dims) <= rules.MESH_AXES.keys() | {'width'}


def test_fully_sharded_layout_of_a_small_model():
  mesh = mesh_lib.create(MeshSection(data=2, fsdp=4))
  params = _names(_params(**MODELS['token']))
  specs = {k: rules.partition_spec(k, x.shape, mesh) for k, x in params.items()}
  block = 'Transformer/encoderblock_0/'
  attention = block + 'MultiHeadDotProductAttention_0/'
  assert specs['embedding/kernel'] == P(None, None, None, 'fsdp')
  assert specs['cls'] == P()
  assert specs['Transformer/posembed_input/pos_embedding'] == P(None, None, 'fsdp')
  assert specs[attention + 'query/kernel'] == P('fsdp')
  assert specs[attention + 'query/bias'] == P()
  assert specs[attention + 'out/kernel'] == P(None, None, 'fsdp')
  assert specs[block + 'MlpBlock_0/Dense_0/kernel'] == P('fsdp')
  assert specs[block + 'MlpBlock_0/Dense_1/kernel'] == P(None, 'fsdp')
  assert specs['head/kernel'] == P('fsdp')
  assert specs['head/bias'] == P()


@pytest.mark.parametrize('name, specs', [
    ('mixer', {'stem/kernel': P(None, None, None, 'fsdp'),
               'MixerBlock_0/token_mixing/Dense_0/kernel': P(),
               'MixerBlock_1/channel_mixing/Dense_1/kernel': P(None, 'fsdp'),
               'MixerBlock_1/LayerNorm_1/scale': P()}),
    ('bit', {'root_block/conv_root/kernel': P(), 'norm-pre-head/bias': P(),
             'block2/unit01/conv2/kernel': P(None, None, None, 'fsdp')}),
    ('hybrid', {'embedding/kernel': P(None, None, None, 'fsdp'), 'gn_root/scale': P(),
                'block1/unit1/conv_proj/kernel': P(None, None, None, 'fsdp')})])
def test_fully_sharded_layout_of_other_models(name, specs):
  mesh = mesh_lib.create(MeshSection(data=2, fsdp=4))
  params = _names(_params(**MODELS[name]))
  assert {k: rules.partition_spec(k, params[k].shape, mesh) for k in specs} == specs


def test_stacked_blocks_keep_their_layers_dim_whole():
  mesh = mesh_lib.create(MeshSection(data=2, fsdp=4))
  name = 'Transformer/encoderblock/MlpBlock_0/Dense_0/kernel'
  shape = _names(_params(**MODELS['scan']))[name].shape
  assert shape == (2, 32, 64)
  assert rules.partition_spec(name, shape, mesh) == P(None, 'fsdp')


def test_data_parallel_replicates_everything():
  mesh = mesh_lib.create(MeshSection())
  shardings = _shardings(_params(**MODELS['token']), mesh)
  assert all(s.spec == P() for s in jax.tree.leaves(shardings))


def test_indivisible_dim_names_parameter_size_and_axis():
  mesh = mesh_lib.create(MeshSection(data=1, fsdp=8))
  params = _params(**dict(TINY, width=36))
  with pytest.raises(UserError, match='width 36 over mesh axis fsdp of 8'):
    _shardings(params, mesh)


def test_unknown_parameter_is_an_error():
  with pytest.raises(ValueError, match="'adapter/kernel' matches 0 rows"):
    rules.logical_dims('adapter/kernel', 2)


@pytest.mark.parametrize('optimizer', [
    optax.adam(1e-3), optax.sgd(0.1, momentum=0.9), optax.adafactor(1e-3)],
    ids=['adam', 'sgd', 'adafactor'])
def test_optimizer_state_follows_the_parameters(optimizer):
  mesh = mesh_lib.create(MeshSection(data=2, fsdp=4))
  params = _params(**MODELS['token'])
  state = jax.eval_shape(
      lambda p: state_lib.create(p, optimizer, ema=True), params)
  shardings = rules.state_shardings(state, mesh)
  by_shape = {}
  for path, x in _names(params).items():
    by_shape.setdefault(path, (x.shape, rules.partition_spec(path, x.shape, mesh)))
  matched = 0
  for tree in (state.opt_state, state.ema):
    base = shardings.opt_state if tree is state.opt_state else shardings.ema
    for (path, x), s in zip(jax.tree_util.tree_leaves_with_path(tree),
                            jax.tree.leaves(base), strict=True):
      owners = [v for k, v in by_shape.items()
                if rules.path_name(path).endswith(k) and v[0] == x.shape]
      if owners:
        assert s.spec == owners[0][1]
        matched += 1
      else:
        assert s.spec == P()
  assert matched >= 2 * len(by_shape) or isinstance(optimizer, tuple)


def test_bytes_per_device():
  mesh = mesh_lib.create(MeshSection(data=2, fsdp=4))
  tree = {'head': {'kernel': jax.ShapeDtypeStruct((32, 10), jnp.float32),
                   'bias': jax.ShapeDtypeStruct((10,), jnp.float32)}}
  shardings = _shardings(tree, mesh)
  assert rules.bytes_per_device(tree, shardings) == 4 * (32 * 10 // 4 + 10)
  real = jax.device_put(
      jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree), shardings)
  held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(real))
  assert rules.bytes_per_device(tree, shardings) == held
