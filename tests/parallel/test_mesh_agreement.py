"""Processes that see devices of different memory build the same mesh."""

import os
import subprocess
import sys

import pytest
import runs

from vit_jax.parallel import auto_mesh

# One process of two; its words: address, number, bytes of its devices' memory.
_SCRIPT = '''
import sys
import flax
import jax
import jax.numpy as jnp
from vit_jax.config.sections import MeshSection
from vit_jax.parallel import auto_mesh, hosts, mesh as mesh_lib
address, number, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def memory_bytes(device):
  assert device.process_index == jax.process_index(), 'asked about a foreign device'
  return memory
auto_mesh.memory_bytes = memory_bytes
params = {'pre_logits': {'kernel': jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}}

@flax.struct.dataclass
class State:
  params: dict
with hosts.session(hosts.ProcessGroup(address, 2, number)):
  mesh = auto_mesh.fit(MeshSection(), mesh_lib.create(MeshSection()), State(params))
  print('mesh', dict(mesh.shape), [d.id for d in mesh.devices.flat])
'''


class _Device:
  def __init__(self, process_index):
    self.process_index = process_index


def test_a_process_asks_a_device_of_its_own():
  foreign, own = _Device(1), _Device(0)
  assert auto_mesh._local([foreign, own]) is own
  assert auto_mesh._local([foreign]) is foreign


@pytest.mark.slow
@pytest.mark.parametrize('memory, fsdp', [((2**20, 2**40), 2), ((2**40, 2**20), 1)])
def test_another_memory_size_on_process_1(memory, fsdp):
  env = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=1'}
  with runs.reserved_port() as port:
    processes = [subprocess.Popen(
        [sys.executable, '-c', _SCRIPT, f'localhost:{port}', str(i), str(memory[i])],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)]
    ends = [runs.finish(p) for p in processes]
  lines = [[line for line in out.splitlines() if line.startswith('mesh')]
           for out, _ in ends]
  assert lines[0] == lines[1]
  assert f"'fsdp': {fsdp}" in lines[0][0]
