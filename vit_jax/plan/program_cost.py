"""A step's time from its compiled program: the TPU compiler's cycles, plus the network.

The compiler leaves its own estimate of the cycles at every fusion. It is read here
with the trip counts of loops, in the order of the schedule, beside a plain model of
the collectives. Nothing of it has been measured; what is known of its errors:
  - a loop fusion is priced per element as if it were float32, so bfloat16 elementwise
    work is charged about 2.4 times its memory time; `low` is the same sum with half
    the price, never under the memory time;
  - kernels written in Pallas have no cycles at all;
  - prefetching from HBM beside the fusions, launches and the input are free.
"""

import collections
import dataclasses

from vit_jax.plan import hlo, hlo_flops, hlo_traffic
from vit_jax.plan.hlo import Computation, Instruction
from vit_jax.plan.network import COLLECTIVES, Network, first_group


@dataclasses.dataclass(frozen=True)
class ProgramCost:
  """Of one step on one device. Seconds are estimates, bytes and counts are not."""
  seconds: float
  # With bfloat16 elementwise work at half its price.
  seconds_low: float
  # Part of `seconds` in which the chip waits for the network; and all its traffic.
  network_exposed: float
  network_busy: float
  # Matrix products and convolutions of the program, recomputation included.
  flops: float
  # To and from HBM.
  hbm_bytes: float
  # Kind -> (number, bytes of the arrays that one device contributes or receives).
  collectives: dict[str, tuple[int, int]]
  # What the numbers leave out, in words.
  notes: tuple[str, ...]


@dataclasses.dataclass
class _Cost:
  """What running a computation once costs."""
  seconds: float = 0.0
  exposed: float = 0.0
  busy: float = 0.0
  flops: float = 0.0
  hbm_bytes: float = 0.0
  # (kind, 'count' or 'bytes') -> number.
  collectives: collections.Counter[tuple[str, str]] = dataclasses.field(
      default_factory=collections.Counter)

  def add(self, other: '_Cost', times: int = 1) -> None:
    self.seconds += times * other.seconds
    self.exposed += times * other.exposed
    self.busy += times * other.busy
    self.flops += times * other.flops
    self.hbm_bytes += times * other.hbm_bytes
    for key, value in other.collectives.items():
      self.collectives[key] += times * value


def estimate(text: str, network: Network) -> ProgramCost:
  """The estimate for a compiled program's text (`compiled.as_text()`).

  Raises:
    ValueError: for text that is no compiled module, or a chip without a clock.
  """
  if not network.slice.generation.clock_ghz:
    raise ValueError(f'The clock of {network.slice.name} is not known.')
  program = hlo.parse(text)
  full, low = _Simulator(program, network, False), _Simulator(program, network, True)
  total, total_low = full.run(program.entry), low.run(program.entry)
  kinds = {kind for kind, _ in total.collectives}
  counts = {kind: (total.collectives[kind, 'count'], total.collectives[kind, 'bytes'])
            for kind in sorted(kinds)}
  return ProgramCost(
      total.seconds, total_low.seconds, total.exposed, total.busy, total.flops,
      total.hbm_bytes, counts, full.notes())


class _Simulator:
  """Goes through the schedule with a clock; asynchronous transfers run beside it."""

  def __init__(self, program: hlo.HloModule, network: Network, low: bool) -> None:
    self.program, self.network, self.low = program, network, low
    chip = network.slice
    self.hz = chip.generation.clock_ghz * 1e9
    self.hbm_rate = chip.hbm_bytes_per_second
    # Names of Pallas kernels, and of loops whose trip count is not known.
    self.kernels: set[str] = set()
    self.open_loops: set[str] = set()
    # Computation -> what one run of it costs.
    self._costs: dict[str, _Cost] = {}

  def notes(self) -> tuple[str, ...]:
    found = []
    if self.open_loops:
      found.append(f'{len(self.open_loops)} loops end when their data say so, such as '
                   'the rejection sampling of MixUp: a single iteration of each is '
                   'counted')
    if self.kernels:
      found.append(f'{len(self.kernels)} Pallas kernels have no cycles: only their HBM '
                   'traffic is counted')
    return tuple(found)

  def run(self, computation: Computation) -> _Cost:
    """The cost of one run; every computation is simulated once."""
    if computation.name not in self._costs:
      self._costs[computation.name] = _Schedule(self, computation).total
    return self._costs[computation.name]


class _Schedule:
  """One run of one computation."""

  def __init__(self, simulator: _Simulator, computation: Computation) -> None:
    self.simulator, self.computation = simulator, computation
    self.total = _Cost()
    # Wire -> when it is free again; transfer -> when it has arrived.
    self.free = {'links': 0.0, 'hosts': 0.0}
    self.arrives: dict[str, float] = {}
    for instruction in computation.instructions:
      self._step(instruction)

  def _step(self, i: Instruction) -> None:
    simulator, opcode = self.simulator, i.opcode
    nested = simulator.program.computations
    if opcode == 'while':
      self._loop(i)
    elif opcode == 'conditional':
      names = (i.called('branch_computations') or
               i.called('true_computation') + i.called('false_computation'))
      branches = [simulator.run(nested[n]) for n in names]
      self.total.add(max(branches, key=lambda b: b.seconds, default=_Cost()))
    elif opcode == 'call':
      self.total.add(simulator.run(nested[i.called('to_apply')[0]]))
    elif opcode.removesuffix('-start') in COLLECTIVES:
      self._collective(i, opcode.removesuffix('-start'),
                       blocking=not opcode.endswith('-start'))
    elif opcode == 'send':
      self._send(i)
    elif opcode == 'recv-done':
      # The data of the peer set off when ours did.
      self._wait(_rendezvous(self.computation.by_name[i.operands[0]]))
    elif opcode.endswith('-done'):
      self._wait(i.operands[0] if i.operands else '')
    elif opcode in ('fusion', 'async-start', 'custom-call'):
      self._fusion(i)
    else:
      self._compute(i)

  def _loop(self, i: Instruction) -> None:
    simulator = self.simulator
    times = hlo.trip_count(simulator.program, self.computation, i)
    if times is None:
      simulator.open_loops.add(i.name)
      times = 1
    for role in ('body', 'condition'):
      called = simulator.program.computations[i.called(role)[0]]
      self.total.add(simulator.run(called), times)

  def _fusion(self, i: Instruction) -> None:
    """A fusion; some carry a collective, or a part of one that runs beside them."""
    inner = [self.simulator.program.computations[n] for n in
             i.called('calls') or i.called('called_computations')]
    inside = [(c, x) for c in inner for x in c.instructions]
    carried = next(((c, x) for c, x in inside if x.opcode in COLLECTIVES), None)
    marks = {x.attribute('custom_call_target').strip('"') for _, x in inside
             if x.opcode == 'custom-call'}
    if carried is None:
      self._compute(i)
      return
    computation, collective = carried
    channel = collective.attribute('channel_id') or collective.name
    if 'AsyncCollectiveStart' in marks or i.opcode == 'async-start':
      key = channel if i.opcode == 'fusion' else i.name
      self._collective(collective, collective.opcode, False, key, computation)
    elif 'AsyncCollectiveDone' in marks:
      self._wait(channel)
    elif i.number('estimated_cycles') or 'chain_id' in collective.attributes:
      self._compute(i)  # a transfer under way, counted where it started
    else:
      # 'all-reduce-scatter': every device keeps its part of the sum.
      scatter = any(x.opcode == 'dynamic-slice' for _, x in inside)
      kind = 'reduce-scatter' if scatter else collective.opcode
      self._collective(collective, kind, True, '', computation)

  def _collective(self, i: Instruction, kind: str, blocking: bool, key: str = '',
                  computation: Computation | None = None) -> None:
    """Starts, or does, a collective.

    Args:
      i: the instruction.
      kind: what it is on the network; see `network.COLLECTIVES`.
      blocking: whether the computation waits for it here.
      key: by which it is waited for; '': its name.
      computation: that holds the instruction; None: the one that runs.
    """
    computation = computation or self.computation
    taken = sum(x.bytes for x in computation.operands(i))
    # A '-start' repeats its operands in its result.
    given = i.bytes - (taken if i.opcode.endswith('-start') else 0)
    payload = max(taken, given) if taken else i.bytes
    seconds = self.simulator.network.seconds(
        kind, payload, first_group(i.attribute('replica_groups')))
    self._transfer(kind, payload, seconds, 'links', key or i.name)
    if blocking:
      self._wait(key or i.name)

  def _send(self, i: Instruction) -> None:
    # Between slices, through the hosts.
    payload = i.arrays[0].bytes
    self._transfer('between slices', payload,
                   self.simulator.network.seconds_between_slices(payload), 'hosts',
                   _rendezvous(i))

  def _transfer(self, kind: str, payload: int, seconds: float, wire: str,
                key: str) -> None:
    begin = max(self.total.seconds, self.free[wire])
    self.free[wire] = self.arrives[key] = begin + seconds
    self.total.busy += seconds
    self.total.collectives[kind, 'count'] += 1
    self.total.collectives[kind, 'bytes'] += payload

  def _wait(self, key: str) -> None:
    missing = max(0.0, self.arrives.pop(key, 0.0) - self.total.seconds)
    self.total.seconds += missing
    self.total.exposed += missing

  def _compute(self, i: Instruction) -> None:
    simulator = self.simulator
    traffic = hlo_traffic.hbm_bytes(simulator.program, self.computation, i)
    self.total.hbm_bytes += traffic
    self.total.flops += hlo_flops.flops(simulator.program, self.computation, i)
    if i.opcode.endswith('-start'):
      return  # a copy beside the computation
    if i.opcode == 'custom-call' and 'tpu_custom_call' in i.attributes:
      simulator.kernels.add(i.name)
    cycles = i.number('estimated_cycles')
    memory = traffic / simulator.hbm_rate
    seconds = memory if cycles is None else cycles / simulator.hz
    if simulator.low and _overpriced(i):
      seconds = max(seconds / 2, min(memory, seconds))
    self.total.seconds += seconds


def _overpriced(i: Instruction) -> bool:
  """Elementwise work mostly on bfloat16 arrays."""
  if i.opcode != 'fusion' or i.attribute('kind') != 'kLoop':
    return False
  narrow = sum(a.elements for a in i.arrays if a.dtype == 'bf16')
  return 2 * narrow >= sum(a.elements for a in i.arrays)


def _rendezvous(i: Instruction) -> str:
  """By which a send and the receive of its peer find each other."""
  name = 'xla_host_transfer_rendezvous="'
  return i.attributes.partition(name)[2].partition('"')[0] or i.name
