"""Process settings, most of which must precede torch's import: where it stands, memory, how threads wait and give way.

By default glibc maps every large temporary anew, and page faults dominate. Here it keeps large blocks, in one arena:
with an arena per thread, no thread could reuse a block that another has freed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import warnings
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
# Rounds of GNU OpenMP's waiting loop, some hundred microseconds. Its default of 300,000 keeps a core busy for
# milliseconds after each product, when the editor needs it. With 0 every product would have to wake its threads.
SPIN = "50000"
# Where the editor wants a core too, it gets three quarters of it.
NICE = 5


def prepare() -> None:
    """Set them all. Threads that exist already keep their arenas, so this comes first in a process."""
    if working_folder_is_gone():
        # oneMKL looks for torch's library from the working folder, and ends the process where there is none.
        os.chdir(Path(os.sep))
    # torch says so as it is imported; nothing here needs numpy.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    spin_briefly()
    keep_large_blocks()


def working_folder_is_gone() -> bool:
    """Whether the folder that the process stands in was removed, or its disk unmounted."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def spin_briefly() -> None:
    """Let idle worker threads sleep soon, unless the user's environment sets how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)


def give_way() -> None:
    """Let the editor go first on Linux: this thread and those that it starts run at a lower priority."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))


def return_free_memory() -> None:
    """Give memory that is free back to the system, as after a load that needed more than what it leaves."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_large_blocks() -> bool:
    """Tell glibc's malloc to reuse large blocks; returns False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)
