"""Short scheduler slices for threads that answer keystrokes, while the engine's products keep every core busy.

A thread that wakes up waits until a running one has used up its slice, some milliseconds. A thread that asks for short
slices runs at once, and gets no larger share of the cores. This needs Linux 6.12 (EEVDF, see sched_setattr(2) and the
kernel's Documentation/scheduler/sched-eevdf.rst); older kernels take the request and do nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# The shortest slice that Linux takes.
SLICE_NS = 100_000
# Threads and processes that this thread starts are scheduled as usual.
RESET_ON_FORK = 1
# The system calls' numbers, for which Python and glibc have no names.
SET, GET = {"x86_64": 314, "aarch64": 274}, {"x86_64": 315, "aarch64": 275}
# Of struct sched_attr: size, policy, flags, nice, priority, runtime, deadline and period.
ATTRIBUTES = "<IIQiIQQQ"
SIZE = struct.calcsize(ATTRIBUTES)


def wake_soon() -> bool:
    """Ask for short slices for the calling thread; returns whether it has them. Never outside Linux."""
    if sys.platform != "linux" or platform.machine() not in SET:
        return False
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        # Whoever started the server chose its scheduling.
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = struct.pack(ATTRIBUTES, SIZE, os.SCHED_OTHER, RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(SET[platform.machine()], 0, wanted, 0)
    return attributes()[5] == SLICE_NS


def attributes(thread: int = 0) -> tuple[int, ...]:
    """A thread's struct sched_attr as the kernel states it, zeros if it states nothing; 0 is the calling thread."""
    found = ctypes.create_string_buffer(SIZE)
    ctypes.CDLL(None).syscall(GET[platform.machine()], thread, found, SIZE, 0)
    return struct.unpack(ATTRIBUTES, found.raw)
