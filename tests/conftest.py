"""Profiles of hypothesis, none with a time limit per case, as machines are noisy.

midspan  what `make test` runs: the same cases on every machine, and nothing that an earlier run left behind.
search   what `make search` runs: other cases at every run, ten times as many; a failure is kept and tried again first.
long     the same, two hundred times as many.

Kernels run in Triton's interpreter, which must be said before triton is imported; TRITON_INTERPRET=0 takes the GPU.
"""

from __future__ import annotations

import os
import signal
import sys

from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores it, and so would every server that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TRITON_INTERPRET", "1")
try:
    import triton  # noqa: F401 - before the kernels, which leave it alone on a CPU otherwise
except ImportError as error:
    # There is none for other systems: only there are kernel tests left out.
    if sys.platform == "linux":
        raise RuntimeError("kernel tests need triton: pip install 'midspan[kernels]', or `make test`") from error
settings.register_profile("midspan", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=1_000, derandomize=False)
settings.register_profile("long", deadline=None, max_examples=20_000, derandomize=False)
settings.register_profile("git", deadline=None, max_examples=2_000, derandomize=False)
settings.load_profile("midspan")
