"""How the C library's allocator treats the buffers of encoded and decoded images."""

import ctypes
import functools
import os

# Parameters of mallopt(3), of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that glibc itself would come to, and what it may keep at the heap's end.
_LARGEST_KEPT, _KEPT = 32 * 2**20, 256 * 2**20
_SETTINGS = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'GLIBC_TUNABLES')


@functools.cache
def keep_freed_memory() -> None:
  """Lets freed buffers be used again instead of going back to the system.

  A buffer of 100 kB that is asked for anew each time costs more in page faults than
  copying an image into it does: 20 us, and there are several for each image. Does
  nothing with another C library, or where the environment has such settings.
  """
  if any(name in os.environ for name in _SETTINGS):
    return
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return
  mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
  mallopt(_TRIM_THRESHOLD, _KEPT)
