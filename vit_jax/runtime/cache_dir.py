"""The folder of what can be made again: $VIT_JAX_CACHE or ~/.cache/vit_jax."""

import os
import pathlib


def cache_dir() -> pathlib.Path:
  if named := os.environ.get('VIT_JAX_CACHE'):
    return pathlib.Path(named).expanduser()
  home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(home) / 'vit_jax'
