"""Kinds of TPU chips: their rates, memory, network, and names.

Imports nothing heavy: the launcher uses this, too.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
  """One kind of chip. Rates are per chip, from Google's published specifications."""
  name: str
  aliases: tuple[str, ...] = ()
  # Accelerator types are '<accelerator>-<number>'.
  accelerator: str
  # What the number counts: 2 TensorCores of every chip, or 1: chips.
  counted_per_chip: int
  # Dims of a slice's network.
  dims: int
  peak_tflops: float  # bfloat16
  hbm_gib: float
  # Of one JAX device, what programs can use; libtpu 0.0.52 says so where one does not
  # fit.
  usable_gib: float
  hbm_gbps: float
  # GB/s of one network link in one direction.
  link_gbps: float
  # GB/s of a chip's share of its host's data centre network, for several slices.
  dcn_gbps: float
  # JAX devices of a chip; a megacore chip is one.
  devices_per_chip: int
  # Of the cycles in the TPU compiler's estimates; 0: not known.
  clock_ghz: float
  # As JAX calls its devices.
  device_kinds: tuple[str, ...]
  # Value of the node label cloud.google.com/gke-tpu-accelerator; '': not on GKE.
  gke_accelerator: str = ''
  # GKE machine types are '<machine>-<chips>t'.
  machine: str = ''
  # Shapes that have an accelerator type, smallest first.
  topologies: tuple[str, ...]
  # Chips of the largest slice.
  most_chips: int
  # `chip_config_name` of JAX's topology call, for one device per chip.
  chip_config: str = ''

  @property
  def hbm_bytes_per_device(self) -> int:
    """Of one JAX device."""
    return int(self.hbm_gib * 2**30 / self.devices_per_chip)

  @property
  def usable_bytes_per_device(self) -> int:
    """What a program on one JAX device can use."""
    return int(self.usable_gib * 2**30)


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8',
          '8x8x16', '8x16x16')

# https://docs.cloud.google.com/tpu/docs and the GKE pages of the same site; the clocks
# follow from the peak rates and the sizes of the matrix units.
GENERATIONS = {g.name: g for g in (
    Generation(
        name='v2', accelerator='v2', counted_per_chip=2, dims=2, peak_tflops=45,
        hbm_gib=16, usable_gib=7.48,
        hbm_gbps=700, link_gbps=62, dcn_gbps=3.1, devices_per_chip=2,
        clock_ghz=0.7, device_kinds=('TPU v2',),
        topologies=('2x2', '4x4', '8x8', '8x16', '16x16'), most_chips=256),
    Generation(
        name='v3', accelerator='v3', counted_per_chip=2, dims=2, peak_tflops=123,
        hbm_gib=32, usable_gib=15.48,
        hbm_gbps=900, link_gbps=82, dcn_gbps=3.1, devices_per_chip=2,
        clock_ghz=0.94, device_kinds=('TPU v3',),
        topologies=('2x2', '4x4', '4x8', '8x8', '8x16', '16x16', '16x32', '32x32'),
        most_chips=1024),
    Generation(
        name='v4', accelerator='v4', counted_per_chip=2, dims=3, peak_tflops=275,
        hbm_gib=32, usable_gib=30.75,
        hbm_gbps=1228, link_gbps=45, dcn_gbps=6.2, devices_per_chip=1,
        clock_ghz=1.05, device_kinds=('TPU v4',), gke_accelerator='tpu-v4-podslice',
        machine='ct4p-hightpu', topologies=_CUBES, most_chips=4096,
        chip_config='megacore'),
    Generation(
        name='v5e', aliases=('v5lite',), accelerator='v5litepod', counted_per_chip=1,
        dims=2, peak_tflops=197, hbm_gib=16, usable_gib=15.75,
        hbm_gbps=819, link_gbps=45, dcn_gbps=3.1,
        devices_per_chip=1, clock_ghz=1.5, device_kinds=('TPU v5 lite',),
        gke_accelerator='tpu-v5-lite-podslice', machine='ct5lp-hightpu',
        topologies=_FLAT, most_chips=256),
    Generation(
        name='v5p', accelerator='v5p', counted_per_chip=2, dims=3, peak_tflops=459,
        hbm_gib=95, usable_gib=95.73,
        hbm_gbps=2765, link_gbps=90, dcn_gbps=6.2, devices_per_chip=1,
        clock_ghz=1.75, device_kinds=('TPU v5', 'TPU v5p'),
        gke_accelerator='tpu-v5p-slice', machine='ct5p-hightpu',
        topologies=(*_CUBES, '16x16x16', '16x16x24'), most_chips=6144),
    Generation(
        name='v6e', aliases=('trillium',), accelerator='v6e', counted_per_chip=1,
        dims=2, peak_tflops=918, hbm_gib=32, usable_gib=31.24,
        hbm_gbps=1640, link_gbps=90,
        dcn_gbps=12.5, devices_per_chip=1, clock_ghz=1.75,
        device_kinds=('TPU v6 lite',), gke_accelerator='tpu-v6e-slice',
        machine='ct6e-standard', topologies=_FLAT, most_chips=256),
    Generation(
        name='tpu7x', aliases=('ironwood',), accelerator='tpu7x', counted_per_chip=2,
        dims=3, peak_tflops=2307, hbm_gib=192, usable_gib=94.74,
        hbm_gbps=7380, link_gbps=100,
        dcn_gbps=12.5, devices_per_chip=2, clock_ghz=0, device_kinds=('TPU7x',),
        gke_accelerator='tpu7x', machine='tpu7x-standard',
        topologies=('1x1x1', *_CUBES), most_chips=9216),
)}


def of_device_kind(device_kind: str) -> Generation | None:
  """The generation of a JAX device; None for one that is no TPU of these."""
  for generation in GENERATIONS.values():
    if device_kind in generation.device_kinds:
      return generation
  return None
