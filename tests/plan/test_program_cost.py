"""The estimate for small programs whose cost can be worked out by hand."""

import itertools
import pathlib

import numpy as np
import pytest

from vit_jax.parallel import tpu_slices
from vit_jax.plan import hlo, program_cost
from vit_jax.plan.network import Network, first_group

# Small programs in the form that libtpu prints.
_HLO = pathlib.Path(__file__).parent / 'hlo'
# A scan of 12 turns with a fusion and a gradient all-reduce in its body, then a matrix
# product that hides an asynchronous gather.
_PROGRAM = (_HLO / 'scan.txt').read_text()
# A value that goes to another slice and back, through the hosts.
_BETWEEN_SLICES = (_HLO / 'between_slices.txt').read_text()
# A gather that runs beside a fusion, and a fusion that is a reduce-scatter.
_CARRIED = (_HLO / 'carried.txt').read_text()
MIB = 2**20


@pytest.fixture
def network():
  """v5e:4x4: no rings, 45 GB/s a link, 1.5 GHz, 819 GB/s."""
  return Network(tpu_slices.parse('v5e:4x4'),
                 np.array(list(itertools.product(range(4), range(4)))))


def test_parsed_program():
  program = hlo.parse(_PROGRAM)
  assert program.entry.name == 'main'
  fusion = program.computations['body'].by_name['y']
  assert fusion.opcode == 'fusion' and fusion.number('estimated_cycles') == 15000
  assert fusion.called('calls') == ['elementwise']
  assert fusion.arrays == (hlo.Array('bf16', (1024, 1024), 0),)
  assert fusion.bytes == 2 * MIB
  copied = program.entry.by_name['near']
  assert [a.space for a in copied.arrays] == [1, 0, 2]
  loop = program.entry.by_name['loop']
  assert hlo.trip_count(program, program.entry, loop) == 12


def test_estimate_by_hand(network):
  found = program_cost.estimate(_PROGRAM, network)
  # A ring over both dims of the slice: 2 x 15/16 of 2 MiB over two links.
  reduce = 2 * 15 / 16 * 2 * MIB / (2 * 45e9)
  gather = 15 / 16 * MIB / (2 * 45e9)
  # The 6,000 cycles of the product pass while the gather is under way, and so does
  # nothing else: the copy of the counter is 8 bytes of HBM traffic.
  counter = 8 / 819e9
  product = 6000 / 1.5e9
  exposed = 12 * reduce + gather - product
  assert found.network_busy == pytest.approx(12 * reduce + gather)
  assert found.network_exposed == pytest.approx(exposed)
  # `next` is 12 additions of two scalars: 12 bytes each.
  scalars = 12 * (12 / 819e9) + counter
  compared = 12 * (4 + 4 + 1) / 819e9
  assert found.seconds == pytest.approx(
      12 * 15000 / 1.5e9 + product + exposed + scalars + compared, rel=1e-9)
  # At half its price the negation costs its 4 MiB of HBM traffic: 5.121 us > 5 us.
  assert found.seconds - found.seconds_low == pytest.approx(
      12 * (15000 / 1.5e9 - 4 * MIB / 819e9))
  assert found.collectives == {'all-gather': (1, MIB), 'all-reduce': (12, 24 * MIB)}
  assert found.flops == 2 * 1024 * 1024 * 512
  # Negation: 2 read, 2 written; the all-reduce belongs to the network; the product
  # reads its left side and writes, and 1 MiB of its right side was copied before.
  assert found.hbm_bytes == pytest.approx((12 * 4 + 2 + 1 + 1) * MIB, rel=1e-5)
  assert found.notes == ()


def test_a_loop_over_data_is_counted_once_and_said(network):
  text = _PROGRAM.replace('%limit = s32[]{:T(128)} constant(12)',
                          '%limit = s32[]{:T(128)} get-tuple-element(%c), index=1')
  found = program_cost.estimate(text, network)
  assert found.collectives['all-reduce'] == (1, 2 * MIB)
  assert 'single iteration' in found.notes[0]


def test_loops_from_an_offset_in_larger_steps(network):
  text = _PROGRAM.replace('%zero = s32[]{:T(128)} constant(0)',
                          '%zero = s32[]{:T(128)} constant(2)')
  text = text.replace('%one = s32[]{:T(128)} constant(1)',
                      '%one = s32[]{:T(128)} constant(3)')
  # 2, 5, 8, 11.
  assert program_cost.estimate(text, network).collectives['all-reduce'][0] == 4


def test_transfers_between_slices(network):
  found = program_cost.estimate(_BETWEEN_SLICES, network)
  # 4 MB at 3.1 GB/s, and nothing to hide them behind.
  assert found.network_exposed == pytest.approx(4e6 / 3.1e9)
  assert found.collectives == {'between slices': (1, 4_000_000)}


def test_collectives_inside_fusions(network):
  found = program_cost.estimate(_CARRIED, network)
  assert found.collectives == {'all-gather': (1, MIB), 'reduce-scatter': (1, MIB)}
  # The gather runs beside 2 us of computation, the scatter beside nothing.
  once = 15 / 16 * MIB / (2 * 45e9)
  assert found.network_busy == pytest.approx(2 * once)
  assert found.network_exposed == pytest.approx(2 * once - 3000 / 1.5e9)


@pytest.mark.parametrize('text, expected', [
    ('{{0,2},{1,3}}, use_global_device_ids=true', [0, 2]),
    ('[2,4]<=[8]', [0, 1, 2, 3]),
    ('[4,2]<=[2,4]T(1,0)', [0, 4]),
    ("mesh['a'=2,'b'=4] {'b'}", [0, 1, 2, 3]),
    ("mesh['a'=2,'b'=4] {'a'}", [0, 4]),
    ("mesh['a'=2,'b'=4] {'a','b'}", list(range(8))),
    ("mesh['a'=8] {'a':(1)2}", [0, 4]),
    ("mesh['a'=8] {'a':(2)4}", [0, 1, 2, 3]),
    ('{}', None),
])
def test_groups(text, expected):
  assert first_group(text) == expected


def test_links_of_a_group():
  grid = np.array(list(itertools.product(range(16), range(16))))
  whole = Network(tpu_slices.parse('v5e:16x16'), grid)
  # Both dims are rings of 16, each with two directions.
  assert whole.links(range(256)) == 4
  assert whole.links(range(16)) == 2
  assert whole.links(range(8)) == 1
  # 608 MB of bfloat16 gradients of L/16.
  assert whole.seconds('all-reduce', 608e6, None) == pytest.approx(
      2 * 255 / 256 * 608e6 / (4 * 45e9))
  assert whole.seconds('all-gather', 1e9, [3]) == 0


def test_text_without_a_program():
  with pytest.raises(ValueError, match='ENTRY'):
    hlo.parse('nothing')
