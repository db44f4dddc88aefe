"""What all processes of a run must see alike is compared before they compute.

Processes whose programs, data or directories differ hang in a collective, or train on
nonsense. So every process states its facts in the key-value store of JAX's runtime,
which needs no device, process 0 compares them, and all go on or end with one message.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax

from vit_jax.parallel.rendezvous import Member
from vit_jax.runtime.errors import UserError

# Processes may have to read a data set's metadata first. One that ends is found out by
# the failure detector, so that this is for those that wait for something else.
TIMEOUT = 900.0
_POLL_SECONDS = 0.1
# Differences that are shown.
_SHOWN = 8
# Longer values are compared by their digests, such as the names of 21,000 classes.
_LONGEST = 160

# Of the exchanges of this process, which all processes make in the same order.
_numbers = itertools.count()


class Client(Protocol):
  """The calls of JAX's DistributedRuntimeClient that are made."""

  def key_value_set(self, key: str, value: str) -> None: ...

  def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...


@dataclasses.dataclass(frozen=True)
class Statement:
  """What one process has said."""
  member: Member
  value: Any


Judge = Callable[[Sequence[Statement]], str]


def check_same(facts: Mapping[str, Any], timeout: float = TIMEOUT) -> None:
  """Makes sure that all processes have the same facts; all of them must call it.

  Args:
    facts: name -> value, anything that JSON can hold.
    timeout: seconds to wait for the others.

  Raises:
    UserError: on all processes, which names what differs, and where.
  """
  if jax.process_count() > 1:
    judge(describe(facts), differences, timeout)


def judge(value: Any, judge_all: Judge, timeout: float = TIMEOUT) -> None:
  """Process 0 judges what all say; raises its verdict, if any, on all of them.

  Args:
    value: of this process, anything that JSON can hold.
    judge_all: from the statements, by process number, to an error or ''.
    timeout: seconds to wait for the others.
  """
  from jax._src import distributed  # Where Orbax takes it from, too.
  client: Any = distributed.global_state.client
  exchange(
      client, next(_numbers), jax.process_index(),
      jax.process_count(), value, judge_all, timeout)


def exchange(client: Client, number: int, process_id: int, size: int, value: Any,
             judge_all: Judge, timeout: float = TIMEOUT) -> None:
  """As `judge`, for the process `process_id` of `size`, in exchange `number`."""
  folder, verdict = f'vit_jax/agreement/{number}/', f'vit_jax/verdict/{number}/'
  me = Member(process_id, socket.gethostname(), os.getpid())
  client.key_value_set(f'{folder}{process_id}', json.dumps(
      {'member': dataclasses.asdict(me), 'value': value}))
  if process_id == 0:
    statements = _collect(client, folder, size, timeout)
    missing = sorted({*range(size)} - {s.member.process_id for s in statements})
    text = judge_all(statements) if not missing else (
        f'Process {", ".join(map(str, missing))} of {size} did not come to the '
        f'comparison of settings within {timeout:g} s. See what it waits for, and '
        'start all again.')
    client.key_value_set(f'{verdict}0', json.dumps(text))
  else:
    # Process 0 may have come last, and then waits as long as we did.
    found = _until(client, verdict, 1, 2 * timeout)
    text = json.loads(found[0]) if found else (
        f'Process 0 did not come to the comparison of settings within {2 * timeout:g} '
        's. See what it waits for, and start all again.')
  if text:
    raise UserError(text)


def describe(facts: Mapping[str, Any]) -> dict[str, str]:
  """The facts as short texts that are equal where the facts are."""
  return {name: _short(json.dumps(value, sort_keys=True, default=str))
          for name, value in facts.items()}


def digest(facts: Mapping[str, str]) -> str:
  """Of what `describe` returned; equal where all is."""
  return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def differences(statements: Sequence[Statement]) -> str:
  """The error that names what differs from process 0, and where; '' if nothing."""
  if len({digest(s.value) for s in statements}) == 1:
    return ''
  first, *others = statements
  lines = [line for other in others for line in _lines(first, other)]
  more = len(lines) - _SHOWN
  shown = lines[:_SHOWN] + ([f'  and {more} more'] if more > 0 else [])
  return ('The processes of this run do not agree on what to compute:\n'
          + '\n'.join(shown) + '\nNothing was computed. Give all processes the same '
          'command, code, packages and data, and start all again.')


def _lines(first: Statement, other: Statement) -> Iterator[str]:
  for name in {**first.value, **other.value}:
    ours, theirs = first.value.get(name, 'absent'), other.value.get(name, 'absent')
    if ours != theirs:
      yield f'  {name}: {theirs} on {other.member}, {ours} on {first.member}'


def _collect(
    client: Client, folder: str, size: int, timeout: float) -> list[Statement]:
  said = [json.loads(text) for text in _until(client, folder, size, timeout)]
  statements = [Statement(Member(**s['member']), s['value']) for s in said]
  return sorted(statements, key=lambda s: s.member.process_id)


def _until(client: Client, folder: str, count: int, timeout: float) -> list[str]:
  """The values in a folder of the store once there are so many, or time is up."""
  deadline = time.monotonic() + timeout
  while True:
    found = [value for _, value in client.key_value_dir_get(folder)]
    if len(found) >= count or time.monotonic() > deadline:
      return found
    time.sleep(_POLL_SECONDS)


def _short(text: str) -> str:
  if len(text) <= _LONGEST:
    return text
  return f'{text[:_LONGEST]}... ({hashlib.sha256(text.encode()).hexdigest()[:12]})'
