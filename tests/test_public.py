"""The names that users import."""

import subprocess
import sys


def test_public_names_are_functions_whatever_was_imported_before():
  import vit_jax.training  # noqa: F401  (must not shadow vit_jax.train)
  for name in dir(vit_jax):
    assert callable(getattr(vit_jax, name)), name


def test_importing_the_package_imports_nothing_heavy():
  code = ('import sys, vit_jax\n'
          'assert not {"jax", "flax", "numpy", "tensorflow"} & set(sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True)
