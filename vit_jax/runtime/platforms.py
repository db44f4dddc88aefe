"""Which of JAX's platforms may be tried on this machine."""

import glob
import importlib.util
import os
import sys

# What the drivers of TPUs, NVIDIA's and AMD's GPUs make.
_DEVICE_FILES = ('/dev/accel*', '/dev/vfio/[0-9]*', '/dev/nvidia[0-9]*', '/dev/kfd')


def rule_out_tpu() -> None:
  """Keeps JAX from loading libtpu where it was installed for `vit_jax plan` alone.

  Without a TPU it would cost seconds and messages, and the first profiler trace would
  end the process (libtpu 0.0.52). Has to run before JAX is imported; JAX_PLATFORMS, if
  set, decides.
  """
  if sys.platform != 'linux' or importlib.util.find_spec('libtpu') is None:
    return
  if not any(glob.glob(pattern) for pattern in _DEVICE_FILES):
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
