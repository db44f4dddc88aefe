"""The command `vit_jax convert`."""

import os
import signal

import golden
import numpy as np
import pytest

from vit_jax.checkpoints import npz
from vit_jax.cli.main import main

_FOLDER = golden.FOLDER / 'timm_token'


def test_convert_and_back(tmp_path, capsys):
  target = tmp_path / 'x.npz'
  assert main(['convert', str(_FOLDER), str(target)]) == 0
  out = capsys.readouterr().out
  assert f'Wrote {target}' in out and 'gelu: exact here, tanh there' in out
  argv = ['convert', str(target), str(tmp_path / 'back'), '--to=timm', '--gelu=exact',
          '--no-verify']
  assert main(argv) == 0
  from safetensors.numpy import load_file
  old, new = (load_file(x / 'model.safetensors') for x in (_FOLDER, tmp_path / 'back'))
  assert old.keys() == new.keys()
  assert all(np.array_equal(old[k], new[k]) for k in old)


def test_list(capsys):
  assert main(['convert', str(_FOLDER), '--list']) == 0
  out = capsys.readouterr().out
  assert 'blocks.0.attn.qkv.weight float32 72x24' in ' '.join(out.split())
  assert 'Model: ViT width 24, depth 2, MLP 60, 3 heads, 8 pixels a patch' in out
  assert "gelu='exact'" in out


def test_list_of_something_unknown(tmp_path, capsys):
  np.savez(tmp_path / 'x.npz', a=np.zeros(3))
  assert main(['convert', str(tmp_path / 'x.npz'), '--list']) == 0
  out = capsys.readouterr().out
  assert 'a  float64   3' in out and 'No model recognised' in out


@pytest.mark.parametrize('argv, message', [
    (['x.npz'], 'either a destination'), (['x.npz', 'y.npz', '--list'], 'either'),
    (['x.npz', 'y.npz', '--config.seed=1'], 'a conversion has no config'),
    (['nowhere.npz', 'y.npz'], 'There is no nowhere.npz'),
    ([str(_FOLDER), 'y', '--to=onnx'], '--to=npz|big_vision|hf|timm|orbax')])
def test_mistakes_are_one_message(argv, message, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert main(['convert', *argv]) == 1
  err = capsys.readouterr().err
  assert err.startswith('vit_jax convert: error:') and message in err
  assert not list(tmp_path.iterdir())


def test_sigterm_leaves_nothing(tmp_path, monkeypatch):
  before = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(npz, 'write', lambda *_: os.kill(os.getpid(), signal.SIGTERM))
  with pytest.raises(SystemExit, match='143'):
    main(['convert', str(_FOLDER), str(tmp_path / 'x.npz')])
  assert not list(tmp_path.iterdir())
  assert signal.getsignal(signal.SIGTERM) == before
