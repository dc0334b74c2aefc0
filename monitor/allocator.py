"""Large buffers that come and go many times a second, kept by the C library instead of given back each time.

glibc maps every buffer above 128 KiB afresh and unmaps it when it is freed: a body of 124 kB, its payload and the arrays it
is counted in then cost a page fault for each 4 KiB, a tenth of what a batch costs.
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
MAPPED_FROM_BYTES: Final = 32 * 2**20
"""The most that glibc takes."""
KEPT_BYTES: Final = 64 * 2**20
"""What may lie idle at the end of a heap before it is given back."""


def keep_large_buffers() -> bool:
    """Tell the C library; False where it is none that can be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
