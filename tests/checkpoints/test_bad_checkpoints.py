"""Damaged, hostile and foreign files: one clear error, and no output."""

import io
import json
import shutil
import types
import zipfile

import golden
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file, save_file

from vit_jax.checkpoints import convert, npz
from vit_jax.checkpoints.load import load
from vit_jax.checkpoints.weights import of_array
from vit_jax.runtime import atomic
from vit_jax.runtime.errors import UserError

_NPZ = golden.FOLDER / 'vitjax_token' / 'params.npz'
_HF = golden.FOLDER / 'hf_vit_cls'


def _arrays():
  with np.load(_NPZ) as arrays:
    return dict(arrays)


def _refused(path, match, tmp_path, **settings):
  """Both users of a checkpoint refuse it, and nothing is left behind."""
  with pytest.raises(UserError, match=match):
    load(path, **settings)
  before = set(tmp_path.iterdir())
  with pytest.raises(UserError, match=match):
    convert.convert(path, tmp_path / 'out', 'orbax', **settings)
  assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('kept', [0, 10, 1000, 50_000, -30])
def test_truncated_npz(kept, tmp_path):
  path = tmp_path / 'x.npz'
  path.write_bytes(_NPZ.read_bytes()[:kept])
  match = 'not a readable npz' if kept < 0 else 'truncated, or no npz file'
  _refused(path, match, tmp_path)


def test_flipped_bit_in_an_npz(tmp_path):
  data = bytearray(_NPZ.read_bytes())
  data[len(data) // 2] ^= 1
  path = tmp_path / 'x.npz'
  path.write_bytes(data)
  _refused(path, 'not a readable npz', tmp_path)


@pytest.mark.parametrize('kept', [4, 100, 5000, -1])
def test_truncated_safetensors(kept, tmp_path):
  path = tmp_path / 'x.safetensors'
  path.write_bytes((_HF / 'model.safetensors').read_bytes()[:kept])
  _refused(path, 'not a readable safetensors', tmp_path)


class _Evil:
  """Unpickling it would leave a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), 'w'))


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
  proof = tmp_path.parent / f'{tmp_path.name}_executed'
  arrays = _arrays() | {'cls': np.array([_Evil(proof)], dtype=object)}
  np.savez(tmp_path / 'x.npz', **arrays)
  _refused(tmp_path / 'x.npz', 'never unpickled', tmp_path)
  assert not proof.exists()


def test_zip_bomb(tmp_path):
  np.savez_compressed(tmp_path / 'x.npz', cls=np.zeros(20 << 20, np.float64))
  assert (tmp_path / 'x.npz').stat().st_size < 1 << 20
  _refused(tmp_path / 'x.npz', 'would unpack to', tmp_path)


def test_a_header_that_promises_more_than_there_is(tmp_path):
  member = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      member, {'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,)})
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('cls.npy', member.getvalue() + b'1234')
  _refused(tmp_path / 'x.npz', 'declares', tmp_path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_the_same_name_twice(tmp_path):
  shutil.copy(_NPZ, tmp_path / 'x.npz')
  with zipfile.ZipFile(tmp_path / 'x.npz', 'a') as archive:
    archive.writestr('cls.npy', archive.read('cls.npy'))
  _refused(tmp_path / 'x.npz', "two arrays named 'cls'", tmp_path)


@pytest.mark.parametrize('change, match', [
    ({'cls': None}, 'belongs|left over|positions'),
    ({'embedding/bias': None}, 'missing: embedding/bias'),
    ({'extra/kernel': np.zeros(3)}, 'left over: extra/kernel'),
    ({'embedding/bias': np.zeros(31, np.float32)}, r'embedding/bias: \(31,\)'),
    ({'embedding/kernel': np.zeros((8, 8, 3, 30), np.float32)}, 'width 30'),
    ({'embedding/kernel': np.zeros((8, 8, 1, 32), np.float32)}, '1 channels'),
    ({'Transformer/encoder_norm/scale': np.array(['a'])}, 'no number'),
    ({'Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel': None},
     'no Transformer/encoderblock_0/MlpBlock_0'),
    ({'Transformer/posembed_input/pos_embedding': np.zeros((1, 7, 32), np.float32)},
     'image size can be 8x48, 16x24, 24x16, 48x8'),
])
def test_wrong_arrays(change, match, tmp_path):
  arrays = {k: v for k, v in (_arrays() | change).items() if v is not None}
  np.savez(tmp_path / 'x.npz', **arrays)
  _refused(tmp_path / 'x.npz', match, tmp_path)


def test_wrong_safetensors(tmp_path):
  tensors = load_file(_HF / 'model.safetensors')
  path = tmp_path / 'x.safetensors'
  save_file({'conv1.weight': np.zeros((8, 3, 7, 7), np.float32)}, path)
  _refused(path, 'another architecture', tmp_path)
  name = 'vit.encoder.layer.1.output.dense.weight'
  save_file(tensors | {name: np.zeros((24, 63), np.float32)}, path)
  _refused(path, r'Dense_1/kernel: \(63, 24\)', tmp_path, num_heads=3)
  save_file(tensors | {'vit.adapter': np.zeros(3, np.float32)}, path)
  _refused(path, 'left over: vit.adapter', tmp_path, num_heads=3)


def test_other_architecture_in_an_npz(tmp_path):
  np.savez(tmp_path / 'x.npz', **{'dense/kernel': np.zeros((3, 3))})
  _refused(tmp_path / 'x.npz', 'another architecture', tmp_path)


def test_number_of_heads_is_asked_for(tmp_path):
  path = tmp_path / 'x.safetensors'
  shutil.copy(golden.FOLDER / 'timm_token' / 'model.safetensors', path)
  _refused(path, 'num_heads can be 1, 2, 3', tmp_path)
  assert load(path, num_heads=3)[0].options.num_heads == 3
  with pytest.raises(UserError, match='num_heads'):
    load(path, num_heads=5)


def test_pooling_is_asked_for(tmp_path):
  source = golden.FOLDER / 'vitjax_headless' / 'params.npz'
  _refused(source, "pool can be 'gap'", tmp_path)


@pytest.mark.parametrize('config, match', [
    ({'model_type': 'bert'}, 'model_type'), ({'hidden_act': 'relu'}, 'hidden_act'),
    ('{', 'Cannot read')])
def test_wrong_config(config, match, tmp_path):
  shutil.copy(_HF / 'model.safetensors', tmp_path)
  if not isinstance(config, str):
    config = json.dumps(json.loads((_HF / 'config.json').read_text()) | config)
  (tmp_path / 'config.json').write_text(config)
  with pytest.raises(UserError, match=match):
    load(tmp_path)


@pytest.mark.parametrize('name, match', [
    ('nowhere', 'There is no'), ('nowhere.npz', 'There is no'), ('.', 'holds no')])
def test_nothing_there(name, match, tmp_path):
  _refused(tmp_path / name, match, tmp_path)


def test_unknown_ending(tmp_path):
  (tmp_path / 'x.h5').write_bytes(b'')
  _refused(tmp_path / 'x.h5', 'no known ending', tmp_path)


@pytest.mark.parametrize('target, to, match', [
    ('there.npz', 'npz', 'never overwritten'),
    ('no/x.npz', 'npz', 'there is no folder'),
    ('x.npz', 'hf', 'give a folder'), ('x', 'npz', 'end its name in .npz'),
    ('x', '', '--to=npz'), ('x', 'onnx', '--to=npz')])
def test_wrong_targets(target, to, match, tmp_path):
  (tmp_path / 'there.npz').write_text('mine')
  with pytest.raises(UserError, match=match):
    convert.convert(_NPZ, tmp_path / target, to)
  assert [p.name for p in tmp_path.iterdir()] == ['there.npz']
  assert (tmp_path / 'there.npz').read_text() == 'mine'


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
  def fail(*_, **__):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(np.lib.format, 'write_array', fail)
  with pytest.raises(UserError, match='No space left'):
    convert.convert(_NPZ, tmp_path / 'x.npz')
  assert not list(tmp_path.iterdir())


def test_a_conversion_that_changes_outputs_leaves_nothing(tmp_path, monkeypatch):
  write = npz.write
  def wrong(file, weights, progress):
    weights = weights | {'cls': of_array(weights['cls'].read() + 1)}
    write(file, weights, progress)
  monkeypatch.setattr(npz, 'write', wrong)
  with pytest.raises(UserError, match='give other outputs'):
    convert.convert(_NPZ, tmp_path / 'x.npz')
  assert not list(tmp_path.iterdir())


def test_a_difference_without_influence_on_outputs_is_found(tmp_path, monkeypatch):
  write = npz.write
  def wrong(file, weights, progress):
    name = next(x for x in weights if x.endswith('key/bias'))
    bias = weights[name].read()
    write(file, weights | {name: of_array(bias + np.float32(1))}, progress)
  monkeypatch.setattr(npz, 'write', wrong)
  with pytest.raises(UserError, match='arrays differ(?s:.*)key/bias'):
    convert.convert(_NPZ, tmp_path / 'x.npz')
  assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite(tmp_path):
  np.savez(tmp_path / 'x.npz', **_arrays() | {
      'head/bias': np.full_like(_arrays()['head/bias'], np.nan)})
  with pytest.raises(UserError, match='x.npz gives outputs that are not finite'):
    convert.convert(tmp_path / 'x.npz', tmp_path / 'y.npz')
  convert.convert(tmp_path / 'x.npz', tmp_path / 'y.npz', verification=False)


def test_arrays_of_big_endian_machines(tmp_path):
  np.savez(tmp_path / 'x.npz', **{k: v.astype('>f4') for k, v in _arrays().items()})
  expected, actual = load(_NPZ)[1], load(tmp_path / 'x.npz')[1]
  np.testing.assert_array_equal(
      actual['params']['cls'], expected['params']['cls'])
  convert.convert(tmp_path / 'x.npz', tmp_path / 'hf', 'hf')


def test_parameters_of_integers_are_refused(tmp_path):
  head = np.zeros_like(_arrays()['head/kernel'], dtype=np.int32)
  np.savez(tmp_path / 'x.npz', **_arrays() | {'head/kernel': head})
  _refused(tmp_path / 'x.npz', 'no floating point(?s:.*)head/kernel: int32', tmp_path)


def test_dtype_in_a_hugging_face_config(tmp_path):
  np.savez(tmp_path / 'x.npz', **{k: v.astype('f2') for k, v in _arrays().items()})
  convert.convert(tmp_path / 'x.npz', tmp_path / 'y', 'hf', verification=False)
  assert json.loads((tmp_path / 'y' / 'config.json').read_text())['dtype'] == 'float16'


@pytest.mark.parametrize('case, change', [
    ('hf_vit_cls', {'layer_norm_eps': None}), ('hf_vit_cls', {'image_size': 'a'}),
    ('hf_vit_cls', {'image_size': [1, 2, 3]}), ('hf_vit_cls', {'hidden_act': ['x']}),
    ('hf_vit_cls', {'num_attention_heads': 'a'}), ('timm_token', {'model_args': [1]}),
    ('timm_token', {'pretrained_cfg': {'input_size': 5},
                    'model_args': {'num_heads': 3}})])
def test_nonsense_in_a_config(case, change, tmp_path):
  source = golden.FOLDER / case
  shutil.copy(source / 'model.safetensors', tmp_path)
  config = json.loads((source / 'config.json').read_text()) | change
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match='config.json has a value that makes no sense'):
    load(tmp_path)


@pytest.mark.parametrize('index', [['a'], {'a': 1}])
def test_nonsense_in_an_index(index, tmp_path):
  path = tmp_path / 'model.safetensors.index.json'
  path.write_text(json.dumps({'weight_map': index}))
  with pytest.raises(UserError, match='index.json has a value that makes no sense'):
    load(tmp_path)


class _ObjectStoreError(Exception):
  """As TensorFlow's: no OSError."""


@pytest.mark.parametrize('method', ['is_dir', 'is_file', 'stat', 'open', 'exists'])
def test_a_url_that_cannot_be_reached(method, tmp_path, monkeypatch):
  def fail(*_, **__):
    raise _ObjectStoreError('no credentials')
  url = epath.Path('gs://bucket/x.npz')
  answers = {'is_dir': False, 'is_file': True, 'exists': False}
  for name, answer in answers.items():
    monkeypatch.setattr(type(url), name, lambda *_, answer=answer: answer)
  monkeypatch.setattr(
      type(url), 'stat', lambda _: types.SimpleNamespace(length=1))
  monkeypatch.setattr(type(url), method, fail)
  message = 'Cannot (read|write) gs://bucket/.*: no credentials. Check the URL'
  with pytest.raises(UserError, match=message):
    if method == 'exists':
      atomic.check_free(url)
    else:
      load(url)


@pytest.mark.parametrize('args, match', [
    ({'norm_layer': 'rmsnorm'}, "norm_layer='rmsnorm', which is not supported"),
    ({'attn_layer': 'diff'}, "attn_layer='diff'"),
    ({'final_norm': False}, 'final_norm'),
    ({'patch_size': 16}, r'patch_size \[16, 16\], the weights have \[8, 8\]'),
    ({'embed_dim': 32}, 'embed_dim 32, the weights have 24'), ({'depth': 3}, 'depth')])
def test_timm_settings_that_would_change_the_outputs(args, match, tmp_path):
  source = golden.FOLDER / 'timm_token'
  shutil.copy(source / 'model.safetensors', tmp_path)
  config = json.loads((source / 'config.json').read_text())
  config['model_args'] |= args
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=match):
    load(tmp_path)
