"""Equal programs are built once, and the least recently used are dropped."""

import dataclasses
from concurrent import futures
from typing import Any

import pytest

from vit_jax.runtime.program_cache import ProgramCache


@dataclasses.dataclass(frozen=True)
class Named:
  """Builds a new list of its own name; `built` has those of all of them."""
  name: str
  built: Any = dataclasses.field(compare=False)

  def build(self):
    self.built.append(self.name)
    return [self.name]


def test_equal_programs_are_built_once():
  built, programs = [], ProgramCache()
  first = programs.get(Named('a', built))
  assert first == ['a']
  assert programs.get(Named('a', built)) is first
  assert programs.get(Named('b', built)) == ['b']
  assert built == ['a', 'b']
  assert Named('a', built) in programs and Named('c', built) not in programs


def test_the_least_recently_used_program_is_dropped():
  built, programs = [], ProgramCache(size=2)
  for name in 'abacab':
    programs.get(Named(name, built))
  assert built == ['a', 'b', 'c', 'b']


def test_programs_are_built_while_others_are_looked_up():
  programs = ProgramCache()

  class Waiting(Named):
    def build(self):
      # A second thread gets another program in the meantime.
      with futures.ThreadPoolExecutor(1) as other:
        return other.submit(programs.get, Named('b', self.built)).result(timeout=60)

  assert programs.get(Waiting('a', [])) == ['b']


def test_what_fails_is_not_kept():
  programs = ProgramCache()

  class Failing(Named):
    def build(self):
      raise ValueError(self.name)

  for _ in range(2):
    with pytest.raises(ValueError, match='a'):
      programs.get(Failing('a', []))
