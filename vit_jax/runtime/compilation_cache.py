"""Compiled programs are kept between processes, so that a second start is quick."""

import hashlib
import os
import pathlib

import jax

from vit_jax.runtime.cache_dir import cache_dir


def enable() -> None:
  """Lets JAX keep compiled programs in the user's cache folder.

  Does nothing where JAX_COMPILATION_CACHE_DIR already says where, or where the
  folder cannot be made.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  folder = cache_dir() / 'xla' / _processor()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))


def _processor() -> str:
  """Names the kind of CPU: its programs may not run on another that shares a home."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
  except OSError:
    lines = list(os.uname())
  kinds = sorted({line for line in lines
                  if line.startswith(('flags', 'Features', 'model name'))} or lines)
  return hashlib.sha256('\n'.join(kinds).encode()).hexdigest()[:16]
