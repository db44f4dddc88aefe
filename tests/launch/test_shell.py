"""Quoting, proved by shells that read it."""

import json
import shlex
import subprocess
import sys

import nasty
import pytest

from launch import shell
from vit_jax.runtime.errors import UserError

# Prints its arguments and the variable V so that nothing can be confused.
ECHO = [sys.executable, '-c', 'import json, os, sys; '
        'print(json.dumps([sys.argv[1:], os.environ.get("V")]))']


def _run(script, folder, program='bash'):
  done = subprocess.run([program, '-c', script], cwd=folder, capture_output=True,
                        text=True, check=True)
  assert list(folder.iterdir()) == [], 'a value was run'
  return done.stdout


@pytest.mark.parametrize('program', ['bash', 'sh'])
def test_words_arrive_as_they_were(tmp_path, program):
  script = shell.join([*ECHO, *nasty.VALUES])
  assert json.loads(_run(script, tmp_path, program))[0] == list(nasty.VALUES)


@pytest.mark.parametrize('value', nasty.VALUES)
def test_variables_and_nested_shells(tmp_path, value):
  inner = shell.with_environment([('V', value)], [*ECHO, value])
  exported = f'{shell.exports([("V", value)])}\n{shell.join([*ECHO, value])}'
  nested = shell.join(['sh', '-c', shell.join(['bash', '-c', inner])])
  for script in (inner, exported, nested):
    assert json.loads(_run(script, tmp_path)) == [[value], value]


def test_a_line_is_read_by_other_parsers_too():
  assert shlex.split(shell.join(nasty.VALUES)) == list(nasty.VALUES)


@pytest.mark.parametrize('name', ['A B', '', '1A', 'A=B', 'A;touch owned'])
def test_odd_names_of_variables_are_refused(name):
  with pytest.raises(UserError, match='no name of an environment variable'):
    shell.assignments([(name, 'x')])


def test_nul_is_refused():
  with pytest.raises(UserError, match='NUL'):
    shell.quote('a\0b')


def test_missing_programs_are_named():
  with pytest.raises(UserError, match='no surely-not-there on this machine: get it'):
    shell.check_program('surely-not-there', 'get it')
