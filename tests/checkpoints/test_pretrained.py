"""Fine-tuning from foreign checkpoints: what is kept, resized, made anew."""

import types

import golden
import jax
import numpy as np
import parameters
import pytest

from vit_jax import config as config_lib
from vit_jax.checkpoints import initial, orbax_arrays, pretrained
from vit_jax.checkpoints.load import load
from vit_jax.checkpoints.open_checkpoint import open_checkpoint
from vit_jax.checkpoints.positions import POSITIONS
from vit_jax.checkpoints.store import Store
from vit_jax.config.sections import InitSection, MeshSection
from vit_jax.models import layout, variants
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel import rules
from vit_jax.runtime.errors import UserError
from vit_jax.training import workdir as workdir_lib
from vit_jax.training.state import TrainState

_FILE = golden.FOLDER / 'vitjax_posembed_resize' / 'params.npz'  # 21 classes, 20 hidden
_SIZES = {'patch_size': 8, 'width': 32, 'depth': 2, 'mlp_dim': 64, 'num_heads': 2}


def _job(num_classes=10, image_size=(48, 48), init=None, fsdp=1, **options):
  """As much of a `job.Job` as loading needs."""
  model = variants.create('', num_classes, **_SIZES | options)
  mesh = mesh_lib.create(MeshSection(fsdp=fsdp))

  def make():
    params = layout.init(model, jax.random.key(0), image_size)
    return TrainState(step=0, params=params, opt_state=(), ema=params)
  state = jax.jit(make, out_shardings=rules.state_shardings(
      jax.eval_shape(make), mesh))()
  config = types.SimpleNamespace(
      data=types.SimpleNamespace(image_size=image_size),
      init=InitSection(**init or {}))
  return types.SimpleNamespace(model=model, config=config), state


def _flat(state):
  return golden.flatten(state.params)


def test_as_in_the_original_code(capsys):
  """Head from the initialisation, pre_logits dropped, positions resized."""
  case = golden.load_case('vitjax_posembed_resize')
  job, state = _job()
  loaded = initial.load_params(state, str(_FILE), job)
  flat, before = _flat(loaded), _flat(state)
  kept = golden.flatten(case['params'])
  for name in case['meta']['expected']['keys_restored_unchanged']:
    old = name.replace('LayerNorm_1', 'LayerNorm_2').replace(
        'MlpBlock_0', 'MlpBlock_3').replace(
            'DotProductAttention_0', 'DotProductAttention_1')
    np.testing.assert_array_equal(flat[name], kept[old if old in kept else name])
  np.testing.assert_allclose(
      flat[POSITIONS], case['io']['pos_embedding_resized'], atol=1e-5)
  for name in ('head/kernel', 'head/bias'):
    np.testing.assert_array_equal(flat[name], before[name])
  assert flat.keys() == before.keys()
  assert jax.tree.all(jax.tree.map(
      lambda a, b: bool((a == b).all()), loaded.params, loaded.ema))
  report = capsys.readouterr().out
  for line in ('resized: ' + POSITIONS + ' from 4 x 4 to 6 x 6',
               'initialised anew: head/kernel (32, 10)',
               'ignored: head/kernel (24, 21)', 'ignored: pre_logits/kernel (32, 24)'):
    assert line in report


@pytest.mark.parametrize('fsdp, scan', [(1, True), (8, False), (4, True)])
def test_arrays_arrive_as_the_run_wants_them(fsdp, scan):
  job, state = _job(fsdp=fsdp, scan=scan)
  loaded = initial.load_params(state, str(_FILE), job)
  plain_job, plain_state = _job()
  plain = initial.load_params(plain_state, str(_FILE), plain_job)
  expected = parameters.stacked(plain.params) if scan else plain.params
  for (path, x), y, z in zip(
      jax.tree_util.tree_leaves_with_path(loaded.params), jax.tree.leaves(expected),
      jax.tree.leaves(state.params), strict=True):
    np.testing.assert_array_equal(x, y, err_msg=str(path))
    assert x.sharding == z.sharding


@pytest.fixture
def workdir(tmp_path):
  """A run of 10 classes and 6 x 6 patches that has saved random parameters."""
  run = tmp_path / 'run'
  config = config_lib.from_dict({
      'model': {'variant': ''} | _SIZES | {'patch_size': (8, 8)}, 'ema_decay': 0.9,
      'data': {'image_size': (48, 48)}})
  workdir_lib.claim(str(run), config, workdir_lib.DatasetFacts('x', 9, 10, ('a',) * 10))
  _, state = _job()
  numbers = iter(range(1, 1000))
  random = jax.tree.map(
      lambda x: jax.random.normal(jax.random.key(next(numbers)), x.shape), state.params)
  store = Store(run, config.checkpoint)
  store.save(TrainState(jax.numpy.int32(3), state.params, {}, random), config)
  store.wait()
  store.close()
  return run, random


def _numpy_reads(monkeypatch):
  """The names that are read as whole arrays from here on."""
  names, restore = [], orbax_arrays.restore
  def spy(path, subtree='', wanted=None, args=None):
    names.extend(wanted if args is None else ())
    return restore(path, subtree, wanted, args)
  monkeypatch.setattr(orbax_arrays, 'restore', spy)
  return names


@pytest.mark.parametrize('fsdp', [1, 8])
def test_a_work_directory_goes_straight_to_the_devices(fsdp, workdir, monkeypatch):
  path, expected = workdir
  job, state = _job(fsdp=fsdp)
  read = _numpy_reads(monkeypatch)
  initial.check_checkpoint(str(path), job)
  loaded = initial.load_params(state, str(path), job)
  assert read == []
  for (name, x), y, z in zip(
      jax.tree_util.tree_leaves_with_path(loaded.params), jax.tree.leaves(expected),
      jax.tree.leaves(state.params), strict=True):
    np.testing.assert_array_equal(x, y, err_msg=str(name))
    assert x.sharding == z.sharding


def test_of_a_work_directory_only_what_changes_is_read_whole(workdir, monkeypatch):
  path, expected = workdir
  job, state = _job(num_classes=5, image_size=(32, 32), fsdp=4)
  read = _numpy_reads(monkeypatch)
  loaded = initial.load_params(state, str(path), job)
  assert set(read) == {POSITIONS, 'head/kernel', 'head/bias'}
  assert loaded.params['Transformer']['posembed_input']['pos_embedding'].shape == (
      1, 1 + 16, 32)
  np.testing.assert_array_equal(loaded.params['cls'], expected['cls'])


def test_blocks_of_a_work_directory_can_be_stacked(workdir):
  path, expected = workdir
  job, state = _job(fsdp=4, scan=True)
  loaded = initial.load_params(state, str(path), job)
  jax.tree.map(np.testing.assert_array_equal, loaded.params,
               parameters.stacked(expected))


def test_a_damaged_work_directory_is_refused(workdir):
  path, _ = workdir
  file = max((path / 'checkpoints/3/state').rglob('*'), key=lambda p: p.is_file()
             and p.stat().st_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  with pytest.raises(UserError, match='init.checkpoint.*is damaged.*CRC-32C'):
    initial.check_checkpoint(str(path), _job()[0])
  with pytest.raises(UserError, match='is damaged.*CRC-32C'):
    load(path)


def test_pre_logits_and_head_can_be_kept():
  job, state = _job(num_classes=21, representation_size=24, image_size=(32, 32),
                    init={'head': 'keep', 'pre_logits': 'keep'})
  flat = _flat(initial.load_params(state, str(_FILE), job))
  expected = golden.flatten(golden.load_case('vitjax_posembed_resize')['params'])
  for name in ('head/kernel', 'head/bias', 'pre_logits/kernel', POSITIONS):
    np.testing.assert_array_equal(flat[name], expected[name])


def test_a_head_that_fits_can_be_reset():
  for init, kept in ({}, True), ({'head': 'reset'}, False):
    job, state = _job(num_classes=21, representation_size=24, init=init)
    flat = _flat(initial.load_params(state, str(_FILE), job))
    assert bool(np.any(flat['head/kernel'])) == kept


def test_a_head_behind_another_layer_is_not_kept(tmp_path):
  """Its shape would fit by chance."""
  with np.load(_FILE) as arrays:
    arrays = dict(arrays)
  rng = np.random.default_rng(0)
  arrays |= {'pre_logits/kernel': rng.normal(size=(32, 32)), 'pre_logits/bias':
             np.zeros(32), 'head/kernel': rng.normal(size=(32, 21))}
  np.savez(tmp_path / 'x.npz', **arrays)
  job, state = _job(num_classes=21)
  flat = _flat(initial.load_params(state, str(tmp_path / 'x.npz'), job))
  assert not np.any(flat['head/kernel'])


@pytest.mark.parametrize('options, init, match', [
    ({'width': 48}, {}, 'belongs to another model'),
    ({'depth': 3}, {}, 'encoderblock_2'),
    ({'pool': 'gap'}, {}, r'cls: \(1, 1, 32\) in the checkpoint, absent in the model'),
    ({'num_heads': 4}, {}, 'belongs to another model'),
    ({}, {'head': 'keep'}, r'head to keep is \(24, 21\)'),
    ({}, {'pre_logits': 'keep'}, 'Set representation_size to 24'),
    ({}, {'position_resize': 'area'}, 'position_resize'),
    ({}, {'head': 'zero'}, 'auto, keep, reset'),
])
def test_what_does_not_fit_is_found_before_anything_is_written(options, init, match):
  job, _ = _job(init=init, **options)
  with pytest.raises(UserError, match=match):
    initial.check_checkpoint(str(_FILE), job)


@pytest.mark.parametrize('case, options', [
    ('bv_tok', {}), ('hf_vit_cls', {'position_prefix': 'none'}),
    ('timm_reg_cls', {'position_prefix': 'all', 'registers': 2, 'layer_scale': 1e-5}),
    ('timm_reg_cls', {'position_prefix': 'class', 'registers': 2,
                      'layer_scale': 1e-5})])
def test_position_entries_of_other_tokens_do_not_change_the_outputs(case, options):
  folder = golden.FOLDER / case
  path = folder / 'params.npz' if (folder / 'params.npz').exists() else folder
  with np.load(folder / 'io.npz') as arrays:
    images, expected = arrays['image'], arrays['logits']
  with open_checkpoint(path) as checkpoint:
    model = checkpoint.model.with_options(**{'position_prefix': 'class'} | options)
    weights, report = pretrained.adapt(checkpoint, model, checkpoint.grid)
    params = golden.unflatten({n: w.read() for n, w in weights.items()})
  assert not report.initialised
  logits, _ = jax.jit(model.apply)({'params': params}, images)
  np.testing.assert_allclose(logits, expected, atol=5e-5, rtol=1e-4)


def test_other_numerics_are_reported(capsys):
  load(golden.FOLDER / 'bv_siglip_img' / 'params.npz', verbose=True)
  assert 'not: opt/0, params/b, params/t, params/txt' in capsys.readouterr().out
  with open_checkpoint(golden.FOLDER / 'hf_vit_cls') as checkpoint:
    model = checkpoint.model.with_options(gelu='tanh', layer_norm_eps=1e-6)
    _, report = pretrained.adapt(checkpoint, model, (4, 4))
  assert report.differs == [
      "gelu is 'exact' in the checkpoint, 'tanh' here",
      'layer_norm_eps is 1e-12 in the checkpoint, 1e-06 here']


def test_subtree_after_a_colon():
  path = str(golden.FOLDER / 'bv_siglip_img' / 'params.npz')
  assert load(path + ':img')[0] == load(path)[0]
  with pytest.raises(UserError, match="nothing under 'audio'"):
    load(path + ':audio')


def test_augreg_names_are_understood(monkeypatch, tmp_path):
  monkeypatch.setattr(
      initial.augreg, 'resolve',
      lambda name, *bucket: str(_FILE) if (name, bucket) == (
          'augreg:B_16', ('/mirror',)) else name)
  job, state = _job(init={'augreg_bucket': '/mirror'})
  flat = _flat(initial.load_params(state, 'augreg:B_16', job))
  assert np.any(flat['embedding/kernel'])
