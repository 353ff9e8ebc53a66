"""glibc's allocator settings: large blocks stay in the process, and all threads share one arena."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LARGE = 50 << 20
# Holds blocks in threads, then prints glibc's own account of its memory.
PROGRAM = """
import ctypes, sys, threading
import midspan.engine

if sys.argv[1] == "prepared":
    midspan.engine.prepare()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.malloc_info.argtypes = [ctypes.c_size_t], [ctypes.c_int, ctypes.c_void_p]
libc.fopen.argtypes, libc.fclose.argtypes = [ctypes.c_char_p, ctypes.c_char_p], [ctypes.c_void_p]
begun = threading.Barrier(4)

def hold():
    begun.wait()
    for size in (1000, 50 << 20):
        libc.malloc(size)

threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def account(tmp_path: Path, how: str) -> str:
    subprocess.run([sys.executable, "-c", PROGRAM, how, str(tmp_path / how)], cwd=ROOT / "src", check=True, timeout=60)
    return (tmp_path / how).read_text()


def mapped(text: str) -> int:
    """Bytes in blocks that were mapped one by one; Python has some before the settings are made."""
    found = re.search(r'<total type="mmap" count="\d+" size="(\d+)"', text)
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its blocks in its own way")
def test_threads_share_one_arena_and_large_blocks_are_not_mapped(tmp_path: Path) -> None:
    plain, prepared = account(tmp_path, "plain"), account(tmp_path, "prepared")
    assert plain.count("<heap nr=") > 1
    assert mapped(plain) >= 4 * LARGE
    assert prepared.count("<heap nr=") == 1
    assert mapped(prepared) < LARGE


FREED = """
import midspan.engine
from midspan.engine.backends.process import return_free_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

midspan.engine.prepare()
blocks = [bytearray(50 << 20) for _ in range(4)]
for block in blocks:
    block[::4096] = bytes(len(block[::4096]))
del blocks, block
kept = resident()
return_free_memory()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its blocks in its own way")
def test_memory_that_is_free_goes_back_when_a_load_is_over() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED], cwd=ROOT / "src", stdout=subprocess.PIPE, check=True, timeout=60
    )
    assert int(done.stdout) >= 3 * LARGE
