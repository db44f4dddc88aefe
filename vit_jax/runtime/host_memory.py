"""What glibc does with freed memory: keeps it in the process, or gives it back.

By default it gives large blocks back to the kernel until a few of them have been freed,
and from then on keeps them where it can't give them back in part.
"""

import ctypes
import functools
import os
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
# What users set the same by.
_VARIABLES = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'GLIBC_TUNABLES')
_kept = False  # by `keep_freed`, all of it


def keep_freed() -> bool:
  """Tells glibc to keep freed memory; returns whether this C library does so.

  XLA's CPU backend asks for its scratch memory anew in every step. Given back to the
  kernel, which then clears fresh pages for the next step, it costs small models as much
  time as the arithmetic. The price is a higher peak: what one phase of the process has
  freed stays with it.
  """
  # Heaps that are never trimmed and grow in large steps, and no mmap. A single arena
  # would save no further page fault, and the threads of the compiler would queue.
  global _kept
  _kept = True
  return _mallopt({
      _M_MMAP_MAX: 0, _M_TOP_PAD: 2**26, _M_TRIM_THRESHOLD: 2**31 - 1})


@functools.cache
def keep_buffers() -> bool:
  """As `keep_freed`, of what encoded and decoded images need, and bounded.

  Asked for anew for each image, a buffer of 100 kB costs 20 us in page faults, more
  than copying the image into it, and there are several for each. Does nothing where
  more is kept already, or where the environment says what the allocator does.
  """
  if _kept or any(name in os.environ for name in _VARIABLES):
    return False
  return _mallopt({_M_MMAP_THRESHOLD: 2**25, _M_TRIM_THRESHOLD: 2**28})


def return_freed() -> bool:
  """Tells glibc to give every freed large block back; returns whether it will.

  Without, a conversion of an L/16 file peaks at 1.64 instead of 1.38 times its size.
  """
  return _mallopt({_M_MMAP_THRESHOLD: 2**20})


def _mallopt(settings: dict[int, int]) -> bool:
  if not sys.platform.startswith('linux'):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  return all([mallopt(name, value) == 1 for name, value in settings.items()])
