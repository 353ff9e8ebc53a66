"""One hypothesis profile for all tests: no time limit a case, as machines are noisy; the same cases in every CI run."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("midspan", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("midspan")
