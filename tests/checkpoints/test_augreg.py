"""Names of published models against a small table of the study's form."""

import pytest

from vit_jax.checkpoints import augreg, open_checkpoint
from vit_jax.runtime.errors import UserError

_COLUMNS = ('filename', 'adapt_filename', 'ds', 'final_val', 'adapt_ds',
            'adapt_resolution', 'adapt_final_val')
_ROWS = (
    ('B_16-i21k-a', 'B_16-i21k-a--c100', 'i21k', '0.41', 'cifar100', '224', '0.90'),
    ('B_16-i21k-b', 'B_16-i21k-b--c100', 'i21k', '0.47', 'cifar100', '224', '0.91'),
    ('B_16-i21k-b', 'B_16-i21k-b--c100-384', 'i21k', '0.47', 'cifar100', '384', '0.93'),
    ('B_16-i21k-b', 'B_16-i21k-b--i1k', 'i21k', '0.47', 'imagenet2012', '384', '0.85'),
    ('B_16-i1k-z', 'B_16-i1k-z--c100', 'i1k', '0.99', 'cifar100', '384', '0.99'),
    ('R_Ti_16-i21k-a', 'R_Ti_16-i21k-a--c100', 'i21k', '0.2', 'cifar100', '224', '0.7'),
)


@pytest.fixture
def bucket(tmp_path):
  lines = [','.join(_COLUMNS), *(','.join(row) for row in _ROWS)]
  (tmp_path / 'index.csv').write_text('\n'.join(lines) + '\n')
  return str(tmp_path)


@pytest.mark.parametrize('name, file', [
    ('augreg:B_16', 'B_16-i21k-b'), ('augreg:B/16', 'B_16-i21k-b'),
    ('augreg:B_16:i21k', 'B_16-i21k-b'),
    ('augreg:R+Ti/16', 'R_Ti_16-i21k-a'),
    ('augreg:B_16:cifar100', 'B_16-i21k-b--c100-384'),
    ('augreg:B_16:cifar100:224', 'B_16-i21k-b--c100'),
    ('augreg:B/16:imagenet2012', 'B_16-i21k-b--i1k'),
    ('augreg:B_16-i21k-a', 'B_16-i21k-a'),
    ('augreg:B_16-i1k-z--c100', 'B_16-i1k-z--c100')])
def test_names(name, file, bucket):
  assert augreg.resolve(name, bucket) == f'{bucket}/{file}.npz'


def test_paths_stay_as_they_are():
  assert augreg.resolve('/tmp/B_16.npz') == '/tmp/B_16.npz'


@pytest.mark.parametrize('name, match', [
    ('augreg:B_17', 'is no AugReg model'), ('augreg:B_16:kitti', 'nothing for'),
    ('augreg:L_16', 'nothing for'), ('augreg:B_16-i21k-x', 'no file')])
def test_mistakes(name, match, bucket):
  with pytest.raises(UserError, match=match):
    augreg.resolve(name, bucket)


def test_no_table(tmp_path):
  with pytest.raises(UserError, match='Cannot read the table'):
    augreg.resolve('augreg:B_16', str(tmp_path))


def test_names_are_resolved_wherever_a_checkpoint_is_opened(monkeypatch):
  monkeypatch.setattr(augreg, 'resolve', lambda name: f'/resolved/{name}.npz')
  with pytest.raises(UserError, match='There is no /resolved/augreg:B_16.npz'):
    open_checkpoint.list_stored('augreg:B_16')
  with pytest.raises(UserError, match='There is no /resolved/augreg:B_16.npz'):
    with open_checkpoint.open_checkpoint('augreg:B_16'):
      pass
