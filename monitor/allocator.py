"""Memory that comes and goes many times a second: large buffers are kept, and objects are not searched for cycles each time.

glibc maps every buffer above 128 KiB afresh and unmaps it when it is freed: a body of 124 kB, its payload and the arrays it
is counted in then cost a page fault for each 4 KiB, a tenth of what a batch costs.
"""

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
MAPPED_FROM_BYTES: Final = 32 * 2**20
"""The most that glibc takes."""
KEPT_BYTES: Final = 64 * 2**20
"""What may lie idle at the end of a heap before it is given back."""
COLLECTED_EVERY: Final = 20_000
"""Objects made and not freed between two searches for cycles; Python's own 700 are a fraction of one JSON batch."""


def keep_large_buffers() -> bool:
    """Tell the C library; False where it is none that can be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))


def collect_seldom() -> None:
    """Leave what is there out of every search for cycles, and search less often; for a daemon that has just started.

    A batch makes thousands of objects and no cycle: each is freed by its count of references, as before.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_EVERY, *gc.get_threshold()[1:])
