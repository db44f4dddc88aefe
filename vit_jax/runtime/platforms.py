"""Which of JAX's platforms may be tried on this machine."""

import glob
import importlib.util
import os
import sys

from vit_jax.runtime.errors import UserError

# What the drivers of TPUs, NVIDIA's and AMD's GPUs make.
# What Cloud TPU and GKE set on the hosts of a slice.
_TPU_HOST = 'TPU_WORKER_HOSTNAMES'
_DEVICE_FILES = ('/dev/accel*', '/dev/vfio/[0-9]*', '/dev/nvidia[0-9]*', '/dev/kfd')


def rule_out_tpu() -> None:
  """Keeps JAX from loading libtpu where it was installed for `vit_jax plan` alone.

  Without a TPU it would cost seconds and messages, and the first profiler trace would
  end the process (libtpu 0.0.52). Has to run before JAX is imported; JAX_PLATFORMS, if
  set, decides.
  """
  if sys.platform != 'linux' or importlib.util.find_spec('libtpu') is None:
    return
  if not _devices():
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')


def check_tpu_visible() -> None:
  """Raises UserError on a host of a TPU slice whose container sees no device.

  JAX would train on the CPU without a word. Has to run before JAX and libtpu are
  imported, which set the variable that it looks at, and before `rule_out_tpu`.
  """
  if _TPU_HOST in os.environ and not _devices() and not os.environ.get('JAX_PLATFORMS'):
    raise UserError(
        f'{_TPU_HOST} says that this is a host of a TPU slice, but no device is '
        f'visible ({", ".join(_DEVICE_FILES[:2])}), so that all would run on the CPU. '
        'Give the container its devices (resources google.com/tpu, or '
        '--privileged), or set JAX_PLATFORMS=cpu if the CPU is meant.')


def _devices() -> bool:
  return any(glob.glob(pattern) for pattern in _DEVICE_FILES)
