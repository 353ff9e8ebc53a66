"""The builds of the CPU's own kernels: the CPU features that each needs, and its compiler flags. Standard library only.

setup.py compiles the builds for its own kind of machine. native.py opens the first that the CPU can run. The tests
compile a program with the same flags.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCES = tuple(f"kernels/cpu/{name}.cpp" for name in ("decoder", "layers", "library", "vocabulary"))
FLAGS = ("-std=c++17", "-O3", "-g0", "-fno-math-errno", "-ffp-contract=fast")
# As `platform.machine` spells them, in lower case.
X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")


class Build(NamedTuple):
    """One extension module. `features` are keys of torch.cpu.get_capabilities; the CPU must have all of them."""

    name: str
    machines: tuple[str, ...]
    features: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def module(self) -> str:
        """The extension module's dotted name."""
        return f"midspan.kernels._{self.name}"


AVX2 = ("-mavx2", "-mfma")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni")

# The fastest first.
BUILDS = (
    Build("avx512", X86, ("avx512_vnni",), (*AVX2, *AVX512)),
    Build("avxvnni", X86, ("avx_vnni",), (*AVX2, "-mavxvnni")),
    Build("avx2", X86, ("avx2", "fma3"), AVX2),
    Build("neondot", ARM, ("dot",), ("-march=armv8.2-a+dotprod",)),
    Build("neon", ARM, (), ("-march=armv8-a",)),
)


def builds_for(machine: str) -> tuple[Build, ...]:
    """The builds for one kind of machine, named as `platform.machine` names it; the fastest first."""
    return tuple(build for build in BUILDS if machine.lower() in build.machines)
