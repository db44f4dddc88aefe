"""What JAX and libtpu must find in the environment to compile for TPUs elsewhere."""

import os

# Read once, by JAX or by libtpu when they are loaded: the local backend stays the CPU,
# nobody asks a cloud for its metadata, and several processes may compile at a time.
_VARIABLES = {
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TF_CPP_MIN_LOG_LEVEL': '3',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def prepare() -> None:
  """Has to run before JAX is imported."""
  os.environ.update(_VARIABLES)
