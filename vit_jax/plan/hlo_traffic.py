"""Bytes that an instruction of a compiled program moves to and from HBM."""

from collections.abc import Iterable

from vit_jax.plan import hlo
from vit_jax.plan.hlo import Computation, HloModule, Instruction

# They move nothing, or their bytes belong to another instruction.
_FREE = ('parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'after-all',
         'partition-id', 'replica-id', 'iota', 'while', 'conditional', 'call', 'domain',
         'opt-barrier', 'add-dependency', 'copy-done', 'slice-done')
_VIEWS = ('bitcast', 'reshape', 'copy', 'convert')


def hbm_bytes(program: HloModule, computation: Computation, i: Instruction) -> int:
  """Bytes read from and written to HBM; what stays in VMEM is free.

  Of an operand that is only sliced the slices count, of one that is updated in place
  the update.
  """
  if i.opcode in _FREE:
    return 0
  if i.opcode == 'custom-call' and 'tpu_custom_call' not in i.attributes:
    return 0  # the compiler's own: they rename buffers
  if i.opcode == 'slice-start':
    return _slice_start(computation, i)
  if i.opcode == 'copy-start':
    return _in_hbm(i.arrays[:2])
  if i.opcode in ('dynamic-slice', 'slice'):
    return 2 * _in_hbm(i.arrays)
  operands = computation.operands(i)
  if i.opcode == 'dynamic-update-slice':
    return 2 * _in_hbm(operands[1].arrays)
  if i.opcode != 'fusion':
    return _in_hbm(i.arrays) + sum(_in_hbm(x.arrays) for x in operands)
  inner = program.computations[i.called('calls')[0]]
  parameters = inner.parameters()
  read = sum(_read(inner, parameters[n], x) for n, x in enumerate(operands)
             if n in parameters)
  return read + _written(inner, i)


def _in_hbm(arrays: Iterable[hlo.Array]) -> int:
  return sum(a.bytes for a in arrays if a.space == hlo.HBM)


def _slice_start(computation: Computation, i: Instruction) -> int:
  # The result is (operands, slice, ...).
  sliced = i.arrays[len(computation.operands(i)):][:1]
  return sum(a.bytes for a in sliced)


def _users(inner: Computation, x: Instruction) -> list[Instruction]:
  """The instructions that use `x`, looking through views of it."""
  found = []
  for user in inner.instructions:
    if x.name in user.operands:
      found += _users(inner, user) if user.opcode in _VIEWS else [user]
  return found


def _read(inner: Computation, parameter: Instruction, operand: Instruction) -> int:
  """Bytes of an operand of a fusion that it reads."""
  whole = _in_hbm(operand.arrays)
  if not whole:
    return 0
  part = 0
  for user in _users(inner, parameter):
    if user.opcode in ('dynamic-slice', 'slice', 'gather'):
      part += user.bytes
    elif user.opcode != 'dynamic-update-slice':
      return whole
  return min(part, whole)


def _written(inner: Computation, i: Instruction) -> int:
  """Bytes of the results of a fusion that it writes."""
  root = inner.root
  if root is None:
    return _in_hbm(i.arrays)
  roots = inner.operands(root) if root.opcode == 'tuple' else [root]
  if len(roots) != len(i.arrays):
    return _in_hbm(i.arrays)
  written = 0
  for x, array in zip(roots, i.arrays, strict=True):
    while x.opcode in _VIEWS and inner.operands(x):
      x = inner.operands(x)[0]
    if array.space != hlo.HBM or x.opcode == 'parameter':
      continue  # a parameter is handed through, not copied
    if x.opcode == 'dynamic-update-slice':
      written += inner.operands(x)[1].bytes
    else:
      written += array.bytes
  return written
