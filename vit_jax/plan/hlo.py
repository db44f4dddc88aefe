"""Reads the text of a compiled program: `compiled.as_text()`, XLA's scheduled HLO.

Only what a cost estimate needs: computations, their instructions in the order in which
they run, shapes with the memory they live in, and a few attributes.
"""

import dataclasses
import math
import re

_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16,
         'bf16': 16, 'f16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64,
         'u64': 64, 'f64': 64, 'c64': 64, 'f8e4m3fn': 8, 'f8e5m2': 8}
# HBM is memory space 0; 1 is a TPU's VMEM, where operands of fusions are prefetched to.
HBM = 0

_ARRAY = re.compile(r'([a-z][a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?')
_HEAD = re.compile(r'^(ENTRY )?%?([^\s(]+) \(.*\) -> .*\{$')
_NAME = re.compile(r'^\s+(ROOT )?%?([^\s=]+) = ')
_CALLED = re.compile(
    r'(calls|to_apply|body|condition|branch_computations|called_computations'
    r'|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)')


@dataclasses.dataclass(frozen=True)
class Array:
  dtype: str
  dims: tuple[int, ...]
  space: int = HBM

  @property
  def elements(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    # Tokens and other opaque values have no size.
    return -(-self.elements * _BITS.get(self.dtype, 0) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
  name: str
  opcode: str
  # The result; a tuple's elements, nested ones flattened.
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  # Everything behind the operands, metadata left out.
  attributes: str
  root: bool = False

  def called(self, role: str) -> list[str]:
    """Names of the computations called as 'body', 'calls', ..."""
    for found, names in _CALLED.findall(self.attributes):
      if found == role:
        return re.findall(r'[\w.\-]+', names)
    return []

  def number(self, key: str) -> int | None:
    """A whole number of the backend's configuration, or None."""
    match = re.search(rf'"{key}":"?(\d+)', self.attributes)
    return int(match[1]) if match else None

  def attribute(self, name: str) -> str:
    """The text of `name=...` up to the next attribute; '' if there is none."""
    match = re.search(rf'(?:^|, ){name}=(.*?)(?=, [a-z_]+=|$)', self.attributes)
    return match[1] if match else ''

  @property
  def bytes(self) -> int:
    return sum(a.bytes for a in self.arrays)


class Computation:
  """A sequence of instructions, in the order of the schedule."""

  def __init__(self, name: str) -> None:
    self.name = name
    self.instructions: list[Instruction] = []
    self.by_name: dict[str, Instruction] = {}
    self.root: Instruction | None = None

  def add(self, instruction: Instruction) -> None:
    self.instructions.append(instruction)
    self.by_name[instruction.name] = instruction
    if instruction.root:
      self.root = instruction

  def operands(self, instruction: Instruction) -> list[Instruction]:
    return [self.by_name[n] for n in instruction.operands if n in self.by_name]

  def parameters(self) -> dict[int, Instruction]:
    """Parameter number -> instruction."""
    return {int(i.operands[0]): i for i in self.instructions
            if i.opcode == 'parameter' and i.operands}


@dataclasses.dataclass(frozen=True)
class HloModule:
  entry: Computation
  computations: dict[str, Computation]


def parse(text: str) -> HloModule:
  """The program in a compiled module's text; ValueError if it holds no entry."""
  computations: dict[str, Computation] = {}
  entry: Computation | None = None
  current: Computation | None = None
  for line in text.splitlines():
    if current is None:
      head = _HEAD.match(line)
      if head:
        current = Computation(head[2])
        computations[current.name] = current
        entry = current if head[1] else entry
    elif line.startswith('}'):
      current = None
    else:
      instruction = _instruction(line)
      if instruction:
        current.add(instruction)
  if entry is None:
    raise ValueError('The text has no ENTRY computation; it is no HLO module.')
  return HloModule(entry, computations)


def arrays(text: str) -> tuple[Array, ...]:
  """The arrays of a shape such as '(f32[2,3]{1,0:T(8,128)S(1)}, u32[])'."""
  found = []
  for dtype, dims, layout in _ARRAY.findall(text):
    space = re.search(r'S\((\d+)\)', layout)
    found.append(Array(
        dtype, tuple(int(d) for d in dims.split(',') if d),
        int(space[1]) if space else HBM))
  return tuple(found)


def _instruction(line: str) -> Instruction | None:
  name = _NAME.match(line)
  if not name:
    return None
  rest = line[name.end():]
  shape_end = _closing(rest) if rest.startswith('(') else rest.find(' ')
  shape, rest = rest[:shape_end], rest[shape_end:].lstrip()
  start = rest.find('(')
  closing = start + _closing(rest[start:])
  inside = re.sub(r'/\*.*?\*/', '', rest[start + 1:closing - 1])
  attributes = re.sub(r',? ?metadata=\{[^}]*\}', '', rest[closing:]).lstrip(', ')
  opcode = rest[:start]
  if opcode in ('parameter', 'constant'):
    operands = (inside.strip(),)
  else:
    # Operands may be written with their shapes: 'f32[2]{0} %a'.
    operands = tuple(re.findall(r'%([\w.\-]+)', inside))
  return Instruction(
      name[2], opcode, arrays(shape), operands, attributes, bool(name[1]))


def _closing(text: str) -> int:
  """Position behind the parenthesis that closes the one at the start."""
  depth = 0
  for match in re.finditer(r'[()]', text):
    depth += 1 if match[0] == '(' else -1
    if not depth:
      return match.end()
  return len(text)


def trip_count(program: HloModule, computation: Computation,
               loop: Instruction) -> int | None:
  """How often the body of a `while` runs, or None if its text doesn't say.

  JAX's scans and fori_loops count an integer from a constant to a constant; the
  compiler may hand these through the loop's tuple.
  """
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if known:
    return int(known[1])
  condition = program.computations[loop.called('condition')[0]]
  test = condition.root
  while test is not None and test.opcode == 'bitcast':
    test = condition.by_name.get(test.operands[0])
  if test is None or test.opcode != 'compare' or len(test.operands) != 2:
    return None
  start = computation.by_name.get(loop.operands[0])
  begin, end = (_value(condition, name, start, computation) for name in test.operands)
  direction = test.attribute('direction')
  counter = _tuple_index(condition, test.operands[0])
  if begin is None or end is None or counter is None or direction not in ('LT', 'LE'):
    return None
  step = _increment(program.computations[loop.called('body')[0]], counter)
  if not step or step < 0:
    return None
  span = end - begin + (direction == 'LE')
  return max(0, -(-span // step))


def _value(condition: Computation, name: str, start: Instruction | None,
           outside: Computation) -> int | None:
  """The whole number that a side of the test has before the loop, or None."""
  found = condition.by_name[name]
  if found.opcode == 'constant':
    return _integer(found.operands[0])
  index = _tuple_index(condition, name)
  if index is None or start is None or start.opcode != 'tuple':
    return None
  return _constant(outside, start.operands[index])


def _tuple_index(computation: Computation, name: str) -> int | None:
  found = computation.by_name[name]
  if found.opcode != 'get-tuple-element':
    return None
  return int(found.attribute('index'))


def _constant(computation: Computation, name: str) -> int | None:
  found = computation.by_name.get(name)
  while found is not None and found.opcode in ('copy', 'bitcast', 'convert'):
    found = computation.by_name.get(found.operands[0])
  if found is None or found.opcode != 'constant':
    return None
  return _integer(found.operands[0])


def _increment(body: Computation, counter: int) -> int:
  """What an iteration adds to element `counter` of the tuple; 1 if it is hidden."""
  if body.root is None or body.root.opcode != 'tuple':
    return 1
  found = body.by_name.get(body.root.operands[counter])
  while found is not None and found.opcode in ('copy', 'bitcast'):
    found = body.by_name.get(found.operands[0])
  if found is None or found.opcode != 'add':
    return 1
  return next((c for c in (_constant(body, n) for n in found.operands)
               if c is not None), 1)


def _integer(text: str) -> int | None:
  try:
    return int(text)
  except ValueError:
    return None
