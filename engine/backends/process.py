"""What the process is told before torch is imported: how it keeps memory, and how threads wait for each other.

glibc maps every large temporary anew, and page faults dominate; told so, it keeps large CPU blocks. It does so in one
arena: otherwise each thread would keep blocks of its own, and no other thread could take what one lets go.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
# Rounds of GNU OpenMP's waiting loop, some hundred microseconds. Its own 300,000 keep a core from the editor, and from
# the next keystroke, for milliseconds after each product; none would have every product wake its threads.
SPIN = "50000"


def prepare() -> None:
    """Settle both; threads that have begun before keep their arenas."""
    spin_briefly()
    keep_large_blocks()


def spin_briefly() -> None:
    """Let idle threads of products sleep soon, unless the user's environment says how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)


def keep_large_blocks() -> bool:
    """Tell glibc's malloc to reuse large blocks; returns False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)
