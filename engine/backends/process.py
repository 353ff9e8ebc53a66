"""Keep large CPU blocks in the process: glibc otherwise maps every big temporary anew, and page faults dominate.

In one arena: each thread would keep blocks of its own, and what one lets go no other could take.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_large_blocks() -> bool:
    """Tell glibc's malloc to reuse large blocks; returns False where the C library is not glibc.

    Threads that have begun before keep their arenas.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)
