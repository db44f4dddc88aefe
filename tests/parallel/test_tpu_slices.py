"""Names of slices against what Google's documentation says they are."""

import subprocess
import sys

import pytest

from vit_jax.parallel import tpu_generations, tpu_slices
from vit_jax.runtime.errors import UserError

# (name, shape, chips, hosts, GKE accelerator, machine type), from the configuration
# tables of the Cloud TPU and GKE documentation.
DOCUMENTED = (
    ('v2-8', '2x2', 4, 1, '', ''),
    ('v3-32', '4x4', 16, 4, '', ''),
    ('v4-8', '2x2x1', 4, 1, 'tpu-v4-podslice', 'ct4p-hightpu-4t'),
    ('v4-32', '2x2x4', 16, 4, 'tpu-v4-podslice', 'ct4p-hightpu-4t'),
    ('v4-512', '4x8x8', 256, 64, 'tpu-v4-podslice', 'ct4p-hightpu-4t'),
    ('v5litepod-1', '1x1', 1, 1, 'tpu-v5-lite-podslice', 'ct5lp-hightpu-1t'),
    ('v5litepod-4', '2x2', 4, 1, 'tpu-v5-lite-podslice', 'ct5lp-hightpu-4t'),
    ('v5litepod-8', '2x4', 8, 1, 'tpu-v5-lite-podslice', 'ct5lp-hightpu-8t'),
    ('v5litepod-16', '4x4', 16, 4, 'tpu-v5-lite-podslice', 'ct5lp-hightpu-4t'),
    ('v5litepod-256', '16x16', 256, 64, 'tpu-v5-lite-podslice', 'ct5lp-hightpu-4t'),
    ('v5p-8', '2x2x1', 4, 1, 'tpu-v5p-slice', 'ct5p-hightpu-4t'),
    ('v5p-128', '4x4x4', 64, 16, 'tpu-v5p-slice', 'ct5p-hightpu-4t'),
    ('v5p-12288', '16x16x24', 6144, 1536, 'tpu-v5p-slice', 'ct5p-hightpu-4t'),
    ('v6e-1', '1x1', 1, 1, 'tpu-v6e-slice', 'ct6e-standard-1t'),
    ('v6e-8', '2x4', 8, 1, 'tpu-v6e-slice', 'ct6e-standard-8t'),
    ('v6e-64', '8x8', 64, 16, 'tpu-v6e-slice', 'ct6e-standard-4t'),
    ('tpu7x-2', '1x1x1', 1, 1, 'tpu7x', 'tpu7x-standard-1t'),
    ('tpu7x-128', '4x4x4', 64, 16, 'tpu7x', 'tpu7x-standard-4t'),
)


@pytest.mark.parametrize('row', DOCUMENTED, ids=lambda row: row[0])
def test_accelerator_types_mean_what_is_documented(row):
  name, topology, chips, hosts, label, machine = row
  found = tpu_slices.parse(name)
  assert (found.topology, found.chips, found.hosts) == (topology, chips, hosts)
  assert (found.gke_accelerator, found.machine_type) == (label, machine)
  assert found.chips_per_host * found.hosts == chips
  assert found.accelerator_type == name
  assert tpu_slices.parse(found.name) == found


def test_other_spellings():
  assert tpu_slices.parse('v5e-256') == tpu_slices.parse('V5litepod-256')
  assert tpu_slices.parse('v5e:16x16') == tpu_slices.parse('v5litepod-256')
  assert tpu_slices.parse('v5p:4x4x12').chips == 192
  assert tpu_slices.parse('v5p:4x4x12').accelerator_type == ''


def test_every_type_of_the_table_parses_to_itself():
  for generation in tpu_generations.GENERATIONS.values():
    types = tpu_slices.accelerator_types(generation)
    assert len(set(types)) == len(types)
    assert [tpu_slices.parse(t).topology for t in types] == list(generation.topologies)
    assert max(tpu_slices.parse(t).chips for t in types) <= generation.most_chips


def test_a_device_is_what_jax_calls_one():
  # Two devices on a v3 chip share its 32 GiB; a v4 chip is a single device.
  assert tpu_slices.parse('v3-8').devices == 8
  assert tpu_slices.parse('v3-8').hbm_bytes == 16 * 2**30
  assert tpu_slices.parse('v4-8').devices == 4
  assert tpu_slices.parse('v4-8').hbm_bytes == 32 * 2**30
  # As libtpu says where a program does not fit.
  usable = {name: round(g.usable_bytes_per_device / 2**30, 2)
            for name, g in tpu_generations.GENERATIONS.items()}
  assert usable == {'v2': 7.48, 'v3': 15.48, 'v4': 30.75, 'v5e': 15.75, 'v5p': 95.73,
                    'v6e': 31.24, 'tpu7x': 94.74}
  assert tpu_slices.parse('v4-8').peak_flops == 275e12


def test_rings():
  assert [tpu_slices.parse('v5e:8x16').wraps(d) for d in (0, 1)] == [False, True]
  assert not tpu_slices.parse('v4:2x2x4').wraps(2)
  assert tpu_slices.parse('v4:4x4x8').wraps(0)


@pytest.mark.parametrize('name, expected', [
    ('v5litepod-12', 'v5litepod-8, v5litepod-16'),
    ('v4-33', 'TensorCores'),
    ('v5e:3x3', '1x1, 2x2'),
    ('v5e:16x32', '8x16, 16x16'),
    ('v4:8x4x4', 'ascending'),
    ('v5e:16', 'v5e:16x16'),
    ('v5litepood-16', 'v5litepod-16'),
    ('v9-8', 'Expected an accelerator type'),
    ('a100', 'tpu7x'),
    ('', 'v5litepod-256'),
])
def test_unknown_names_are_answered_with_valid_ones(name, expected):
  with pytest.raises(UserError, match=expected):
    tpu_slices.parse(name)


def test_nothing_heavy_is_imported():
  code = ('import sys; from vit_jax.parallel import tpu_slices; '
          'tpu_slices.parse("v4-32"); '
          'assert not {"jax", "flax", "numpy", "tensorflow"} & set(sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True)
