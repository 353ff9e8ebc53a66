"""Profiles of hypothesis (without a time limit per case, because machines are noisy) and of Triton's interpreter.

midspan  for `make test`: the same cases on every machine, and no cases that an earlier run stored.
search   for `make search`: random cases in every run, ten times as many; a failing case is stored and tried first.
long     random cases, two hundred times as many.
git      random cases, twenty times as many; for git's ignore rules.

Kernels run in Triton's interpreter, which TRITON_INTERPRET chooses before triton is imported; 0 takes the GPU.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In a shell's background job SIGINT is ignored, and servers that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Whoever runs the tests may have chosen a model by `midspan models use`.
os.environ["XDG_CONFIG_HOME"] = str(Path(tempfile.gettempdir()) / "midspan-tests" / "no configuration")
os.environ.setdefault("TRITON_INTERPRET", "1")
try:
    import triton  # noqa: F401 - before the kernels, which on a CPU use it only if it is imported already
except ImportError as error:
    # Triton exists for Linux only; elsewhere kernel tests are left out.
    if sys.platform == "linux":
        raise RuntimeError("kernel tests need triton: pip install 'midspan[kernels]', or `make test`") from error
settings.register_profile("midspan", deadline=None, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=1_000, derandomize=False)
settings.register_profile("long", deadline=None, max_examples=20_000, derandomize=False)
settings.register_profile("git", deadline=None, max_examples=2_000, derandomize=False)
settings.load_profile("midspan")
