"""One hypothesis profile for all tests: no time limit a case, as machines are noisy; the same cases in every CI run.

Kernels run in Triton's interpreter, which must be said before triton is imported; TRITON_INTERPRET=0 takes the GPU.
"""

from __future__ import annotations

import os
import sys

from hypothesis import settings

os.environ.setdefault("TRITON_INTERPRET", "1")
try:
    import triton  # noqa: F401 - before the kernels, which leave it alone on a CPU otherwise
except ImportError as error:
    # There is none for other systems: only there are kernel tests left out.
    if sys.platform == "linux":
        raise RuntimeError("kernel tests need triton: pip install 'midspan[kernels]', or `make test`") from error
settings.register_profile("midspan", deadline=None, derandomize="CI" in os.environ)
settings.register_profile("long", deadline=None, max_examples=20_000)
settings.register_profile("git", deadline=None, max_examples=2_000)
settings.load_profile("midspan")
