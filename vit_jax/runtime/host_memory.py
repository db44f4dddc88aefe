"""What glibc does with freed memory: keeps it in the process, or gives it back.

By default it gives large blocks back to the kernel until a few of them have been freed,
and from then on keeps them where it can't give them back in part.
"""

import ctypes
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def keep_freed() -> bool:
  """Tells glibc to keep freed memory; returns whether this C library does so.

  XLA's CPU backend asks for its scratch memory anew in every step. Given back to the
  kernel, which then clears fresh pages for the next step, it costs small models as much
  time as the arithmetic. The price is a higher peak: what one phase of the process has
  freed stays with it.
  """
  # Heaps that are never trimmed and grow in large steps, and no mmap. A single arena
  # would save no further page fault, and the threads of the compiler would queue.
  return _mallopt({
      _M_MMAP_MAX: 0, _M_TOP_PAD: 2**26, _M_TRIM_THRESHOLD: 2**31 - 1})


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
