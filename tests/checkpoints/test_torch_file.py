"""Files of torch.save: damaged ones, and pickles that mean harm."""

import io
import pathlib
import pickle
import pickletools
import tracemalloc
import zipfile

import numpy as np
import pytest

from vit_jax.checkpoints import torch_file
from vit_jax.checkpoints.convert import convert
from vit_jax.checkpoints.load import load
from vit_jax.runtime.errors import UserError

_FILES = pathlib.Path(__file__).parent / 'files'
_TENSOR = b'ctorch._utils\n_rebuild_tensor_v2\n'


def _write(folder, code):
  path = folder / 'x.bin'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('archive/data.pkl', code)
  return path


def _refused(path, match, tmp_path):
  """By all readers of a checkpoint, and nothing is left behind."""
  with pytest.raises(UserError, match=match):
    with torch_file.read(path):
      pass
  with pytest.raises(UserError, match=match):
    load(path)
  before = set(tmp_path.iterdir())
  with pytest.raises(UserError, match=match):
    convert(path, tmp_path / 'out', 'orbax')
  assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('kept', [0, 100, 30_000, -50])
def test_truncated_file(kept, tmp_path):
  path = tmp_path / 'x.bin'
  path.write_bytes((_FILES / 'hf_vit_cls.bin').read_bytes()[:kept])
  _refused(path, 'not a readable PyTorch', tmp_path)


def test_old_format(tmp_path):
  _refused(_FILES / 'legacy.bin', 'before 1.6', tmp_path)


class _Evil:
  """Unpickling it would leave a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), 'w'))


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_hostile_pickle_does_not_run(protocol, tmp_path):
  proof = tmp_path / 'executed'
  _refused(_write(tmp_path, pickle.dumps({'a': _Evil(proof)}, protocol)),
           'asks for (io|__builtin__).open, .*nothing was executed', tmp_path)
  assert not proof.exists()


@pytest.mark.parametrize('code', [
    b'\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00exit\x85R.',
    b'\x80\x02}q\x00.', b'\x80\x02K\x01.', b'\x80\x02', b'garbage', b'\x80\x02h\x07.',
    b'\x80\x02(\x81.', b'\x80\x02}K\x01K\x02s.', b'\x80\x02' + _TENSOR + b'(K\x01tR.',
    # Names of what is known, with something else behind them.
    b'\x80\x04\x8c\x05torch\x8c\x05_util\x93.', b'\x80\x02ctorch\nload\n.',
    b'\x80\x02ccollections\nOrderedDict\n)\x81.',
    # Storages that are none.
    b'\x80\x02K\x01Q.', b'\x80\x02(K\x01K\x02K\x03K\x04K\x05tQ.',
    b'\x80\x02(X\x07\x00\x00\x00storageNX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x05tQ.'
])
def test_odd_pickles(code, tmp_path):
  _refused(_write(tmp_path, code), 'not a readable PyTorch', tmp_path)


@pytest.mark.parametrize('target', [
    _TENSOR, b'ctorch\nFloatStorage\n', b'ccollections\nOrderedDict\n'])
@pytest.mark.parametrize('state', [
    b'}X\x0c\x00\x00\x00__defaults__K\x01s', b'N}X\x07\x00\x00\x00meaningK\x01s\x86'])
def test_a_pickle_cannot_change_what_it_names(target, state, tmp_path):
  _refused(_write(tmp_path, b'\x80\x02' + target + state + b'b.'),
           'changes something that is no dictionary', tmp_path)


def test_a_pickle_cannot_change_a_tensor():
  """Its shape has been checked against its storage."""
  storage = torch_file._Storage('0', np.dtype('float32'), 4)
  tensor = torch_file._Tensor(storage, 0, (4,), (1,))
  for harmless in storage, tensor:
    with pytest.raises(ValueError, match='no dictionary'):
      harmless.__setstate__({'shape': (1 << 40,)})


def test_a_tensor_cannot_reach_beyond_its_storage():
  storage = torch_file._Storage('0', np.dtype('float32'), 4)
  for offset, shape, strides in [
      (0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (4, 1)), (0, (9,), (0,)),
      (-1, (1,), (1,)), (0, (2,), (-1,)), (0, (1,) * 99, (1,) * 99)]:
    with pytest.raises(ValueError, match='larger than its storage|impossible'):
      torch_file._Tensor(storage, offset, shape, strides)


def _tuples_of_tuples(steps):
  """A tuple that holds the number 1 2^steps times, as a key."""
  doubling = b''.join(b'h%c\x86q%c' % (i, i + 1) for i in range(steps))
  return b'\x80\x02}K\x01\x85q\x00' + doubling + b'K\x01s.'


@pytest.mark.parametrize('code, match', [
    # Would hash for 2^60 steps.
    (_tuples_of_tuples(60), 'tuple or huge number as a key'),
    # Numbers of one hash: a dictionary of n takes n^2 steps.
    (b'\x80\x02}(' + b''.join(
        b'\x8a\x10' + (n * ((1 << 61) - 1)).to_bytes(16, 'little') + b'K\x01'
        for n in range(100, 20_000)) + b'u.', 'tuple or huge number as a key'),
    # The unpickler would take 16 GiB for its memo.
    (b'\x80\x02}r\xff\xff\xff\x3f.', 'counts wrongly'),
    # Would reserve what the length says.
    (b'\x80\x04\x8e' + (1 << 40).to_bytes(8, 'little') + b'.', 'not a readable'),
    (b'\x80\x05\x96' + (1 << 40).to_bytes(8, 'little') + b'.', 'not a readable'),
    (b'\x80\x04\x8d' + (1 << 40).to_bytes(8, 'little') + b'.', 'not a readable'),
    (b'\x80\x02' + b'}' * 1_000_000 + b'.', 'too long'),
    (b'\x80\x02' + b'}' * (65 << 20) + b'.', 'too large|would unpack to'),
], ids=['tuples', 'numbers', 'memo', 'bytes', 'bytearray', 'text', 'long', 'large'])
def test_pickles_that_would_take_forever_or_all_memory(code, match, tmp_path):
  path = _write(tmp_path, code)
  tracemalloc.start()
  with pytest.raises(UserError, match=match):
    with torch_file.read(path):
      pass
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 200 << 20


def test_values_beside_the_weights(tmp_path):
  """As training scripts leave them: numbers, shared tuples, lists."""
  with zipfile.ZipFile(_FILES / 'hf_vit_cls.bin') as archive:
    name = next(n for n in archive.namelist() if n.endswith('data.pkl'))
    contents = {n: archive.read(n) for n in archive.namelist()}
  betas = (0.9, 0.999)
  beside = pickle.dumps({
      'epoch': 3, 'seed': 1 << 70, 'best': [0.5, None, True],
      'groups': [{'betas': betas}, {'betas': betas}], 'nested': (betas, (betas, 1)),
  }, 2)
  # {..., 'state_dict': what the file holds}
  contents[name] = beside[:-1] + b'X\x0a\x00\x00\x00state_dict' + _renumbered(
      contents[name]) + b's.'
  path = tmp_path / 'x.bin'
  with zipfile.ZipFile(path, 'w') as archive:
    for n, content in contents.items():
      archive.writestr(n, content)
  with torch_file.read(path) as actual, torch_file.read(
      _FILES / 'hf_vit_cls.bin') as expected:
    assert actual.keys() == expected.keys()
    for key, weight in expected.items():
      np.testing.assert_array_equal(actual[key].read(), weight.read())


def _renumbered(data):
  """A pickle as a part of another one: other numbers in the memo, no begin and end."""
  out, shift = io.BytesIO(), 20
  steps = [*pickletools.genops(data)]
  for (opcode, arg, start), (_, _, end) in zip(steps, steps[1:], strict=False):
    code = data[start:end]
    if opcode.name in ('BINPUT', 'LONG_BINPUT', 'BINGET', 'LONG_BINGET'):
      code = (b'r' if 'PUT' in opcode.name else b'j') + (arg + shift).to_bytes(
          4, 'little')
    if opcode.name not in ('PROTO', 'FRAME'):
      out.write(code)
  return out.getvalue()
