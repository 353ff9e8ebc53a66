"""How soon Linux lets a thread run that has something to do, while every core is busy with the engine's products.

A thread that wakes waits until one that runs has used up its slice, some milliseconds, and a keystroke with it. One
that asks for short slices is let in at once, and gets no more of the cores than before. From Linux 6.12 on (EEVDF, see
sched_setattr(2) and the kernel's Documentation/scheduler/sched-eevdf.rst); older ones take the request and do nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# The least that Linux takes.
SLICE_NS = 100_000
# What this thread starts, engine and indexer, is scheduled as usual.
RESET_ON_FORK = 1
SET = {"x86_64": 314, "aarch64": 274}  # the system call's number, for which Python and glibc have no name
# Of struct sched_attr: size, policy, flags, nice, priority, runtime, deadline and period.
ATTRIBUTES = "<IIQiIQQQ"


def wake_soon() -> bool:
    """Ask for short slices for the calling thread; whether the system has taken that. Elsewhere than on Linux: no."""
    if sys.platform != "linux" or (number := SET.get(platform.machine())) is None:
        return False
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        # Whoever started the server has said how it is to be scheduled.
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    size = struct.calcsize(ATTRIBUTES)
    wanted = struct.pack(ATTRIBUTES, size, os.SCHED_OTHER, RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0)
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, 0, wanted, 0) == 0)
