"""Compiles tests/kernels/cpu with each build's flags and runs it: C++ kernels against double precision.

It tests the builds that were built on this machine and, if a cross compiler and an emulator are installed, those for
64-bit ARM (`make arm64` says what to install, and fails without).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from midspan.kernels.builds import ARM, BUILDS, FLAGS, SOURCES, Build
from tests.kernels.test_native import BUILT

ROOT = Path(__file__).parents[2]
CHECKS = Path(__file__).parent / "cpu"
# Has code of the kernels' headers in it; the others call functions of kernels/cpu/*.cpp.
INLINE = {CHECKS / "check.cpp"}
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
EMULATED = [build for build in BUILDS if build.machines == ARM] if all(map(shutil.which, (COMPILER, EMULATOR))) else []
# The oldest CPUs that can run each build: the emulator ends the program at instructions that they lack.
CPUS = {"neondot": "neoverse-n1", "neon": "cortex-a53"}


def compiled(build: Build, folder: Path, compiler: str, *flags: str) -> str:
    command = [compiler, *FLAGS, *build.flags, *flags, "-fopenmp", f"-I{ROOT / 'kernels/cpu'}"]
    called, inline = (sorted(map(str, set(CHECKS.glob("*.cpp")) - INLINE)), sorted(map(str, INLINE)))
    # Compiled with the builds' flags, so that their code is checked; what only calls it, in half the time.
    subprocess.run([*command, "-O1", "-c", *called], cwd=folder, check=True, timeout=300)
    program, made = folder / build.name, sorted(map(str, folder.glob("*.o")))
    # Theirs first: of a function that several files have inline, the linker takes the first.
    sources = [*inline, *(str(ROOT / source) for source in SOURCES)]
    subprocess.run([*command, *sources, *made, "-o", str(program)], check=True, timeout=300)
    return str(program)


def check(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    # The program ran to its end: the first and the last check reported.
    assert (done.returncode, lines[0].split()[1], lines[-1].split()[1]) == (0, "exp,", "likeliest")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", BUILT, ids=[build.name for build in BUILT])
def test_kernels_agree_with_double_precision(build: Build, tmp_path: Path) -> None:
    check(compiled(build, tmp_path, "c++"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", EMULATED, ids=[build.name for build in EMULATED])
def test_kernels_for_arm64_agree_with_double_precision_under_an_emulator(build: Build, tmp_path: Path) -> None:
    check(EMULATOR, "-cpu", CPUS[build.name], compiled(build, tmp_path, COMPILER, "-static"))
