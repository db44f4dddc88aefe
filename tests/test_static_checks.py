"""Clean for ruff and pyright, whose settings are in pyproject.toml."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize('words', [
    ['ruff', 'check', '.'],
    ['pyright', '--pythonpath', sys.executable],
], ids=lambda words: words[0])
def test_nothing_to_complain_about(words):
  done = subprocess.run(
      [sys.executable, '-m', *words], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
