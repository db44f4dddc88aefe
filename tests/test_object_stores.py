"""The servers that stand in for Google's and Amazon's, and who reaches them."""

import json
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from etils import epath

from vit_jax.runtime import storage

_CHILD = '''
import json
import sys
from etils import epath
import tensorstore
from vit_jax.runtime import storage
url = sys.argv[1]
(epath.Path(url) / 'by_epath').write_text('x')
storage.write_text(f'{url}/by_us', 'x')
tensorstore.KvStore.open(json.loads(sys.argv[2])).result()['by_tensorstore'] = b'x'
'''


@pytest.fixture(params=['gs', 's3'])
def store(request):
  return request.getfixturevalue({'gs': 'gcs', 's3': 's3'}[request.param])


def test_processes_and_their_children_reach_the_store(store):
  storage.configure()
  tensorstore = {
      'gs': {'driver': 'gcs', 'bucket': store.bucket},
      # Takes the address from here alone.
      's3': {'driver': 's3', 'bucket': store.bucket, 'endpoint': store.proxy.url,
             'aws_region': 'us-east-1'}}[store.scheme]
  names = ['by_epath', 'by_tensorstore', 'by_us']
  assert list(epath.Path(store.url).iterdir()) == []
  subprocess.run([sys.executable, '-c', _CHILD, store.url, json.dumps(tensorstore)],
                 check=True)
  assert storage.children(store.url) == names
  assert sorted(p.name for p in epath.Path(store.url).iterdir()) == names
  assert (epath.Path(store.url) / 'by_us').read_text() == 'x'
  for name in names:
    assert storage.read_text(f'{store.url}/{name}') == 'x'


def test_a_bucket_is_nobody_elses(gcs, s3):
  assert gcs.bucket != s3.bucket
  assert storage.children(gcs.url) == storage.children(s3.url) == []


def test_conditions_that_would_be_ignored_are_refused(gcs):
  storage.write_text(f'{gcs.url}/f', 'x')
  with pytest.raises(urllib.error.HTTPError, match='501'):
    urllib.request.urlopen(urllib.request.Request(
        f'{gcs.proxy.url}/storage/v1/b/{gcs.bucket}/o/f?ifGenerationMatch=1',
        method='DELETE'))


def test_orbax_saves_and_restores(gcs):
  import orbax.checkpoint as ocp
  storage.configure()
  state = {'w': np.arange(6.0).reshape(2, 3)}
  options = ocp.CheckpointManagerOptions(max_to_keep=1)
  with ocp.CheckpointManager(f'{gcs.url}/run', options=options) as manager:
    for step in (1, 2):
      manager.save(step, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
  assert storage.children(f'{gcs.url}/run') == ['2']
  with ocp.CheckpointManager(f'{gcs.url}/run', options=options) as manager:
    restored = manager.restore(2, args=ocp.args.StandardRestore(state))
  np.testing.assert_array_equal(restored['w'], state['w'])


def test_epath_is_turned_from_tensorflow_however_late(gcs):
  """It remembers from its first use, on whatever path, whom it asks."""
  code = '''
import os, sys
del os.environ['EPATH_USE_TF']
from etils import epath
epath.Path('/').exists()
from vit_jax.runtime import storage
storage.write_text(sys.argv[1] + '/f', 'x')
assert (epath.Path(sys.argv[1]) / 'f').read_text() == 'x'
assert 'tensorflow' not in sys.modules
'''
  subprocess.run([sys.executable, '-c', code, gcs.url], check=True, timeout=60)
