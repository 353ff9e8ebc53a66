"""Builds the CPU's own kernels (kernels/cpu) with the package; all else stands in pyproject.toml.

Here, because each kind of machine has builds of its own. Without a compiler there is none, and plain torch computes.
"""

import platform
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup

# By path: the package itself cannot be imported before it is installed.
builds = runpy.run_path("src/midspan/kernels/builds.py")
# Apple's compiler has no OpenMP: there one thread computes.
threads = [] if sys.platform == "darwin" else ["-fopenmp"]

setup(
    ext_modules=[
        Extension(
            build.module,
            sources=list(builds["SOURCES"]),
            depends=[path.as_posix() for path in sorted(Path("kernels/cpu").glob("*.h"))],
            language="c++",
            extra_compile_args=[*builds["FLAGS"], *threads, *build.flags],
            extra_link_args=threads,
            optional=True,
        )
        for build in builds["builds_for"](platform.machine())
    ]
)
