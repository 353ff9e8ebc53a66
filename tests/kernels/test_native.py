"""Builds of the CPU's own kernels: which one a CPU runs, and that it has every structure's layout from Python."""

from __future__ import annotations

import ctypes
import platform
import re
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from midspan.kernels import native
from midspan.kernels.builds import Build

BUILT = [build for build in native.fitting() if find_spec(build.module) is not None]


def test_a_build_that_cannot_be_opened_is_skipped_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    broken = tmp_path / "_avx512.so"
    broken.write_bytes(b"no library at all")
    monkeypatch.setattr(native, "find_spec", lambda module: ModuleSpec(module, None, origin=str(broken)))
    assert native.library.__wrapped__() is None
    assert "our kernels cannot be opened" in caplog.text
    assert str(broken) in caplog.text


@pytest.mark.parametrize(
    ("machine", "has", "names"),
    [
        ("x86_64", ("avx2", "fma3", "avx_vnni", "avx512_vnni"), ["avx512", "avxvnni", "avx2"]),
        ("AMD64", ("avx2", "fma3", "avx_vnni"), ["avxvnni", "avx2"]),
        ("x86_64", ("avx2", "fma3"), ["avx2"]),
        ("x86_64", ("avx2",), []),
        ("aarch64", ("neon", "dot"), ["neondot", "neon"]),
        ("arm64", ("neon",), ["neon"]),
        ("riscv64", (), []),
    ],
)
def test_the_fastest_build_comes_first(
    monkeypatch: pytest.MonkeyPatch, machine: str, has: tuple[str, ...], names: list[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(has, True))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert [build.name for build in native.fitting()] == names


class Swapped(ctypes.Structure):
    """Sees with two fields of equal size swapped."""

    _fields_ = tuple(native.Sees._fields_[place] for place in (0, 2, 1, 3, 4))


class Shorter(ctypes.Structure):
    """Read without its last field."""

    _fields_ = native.Read._fields_[:-1]


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [("Sees", Swapped, "by Sees.of_canvas"), ("Read", Shorter, "by Read.out: install midspan again")],
)
def test_a_library_of_another_version_is_refused_and_names_the_field_that_differs(
    monkeypatch: pytest.MonkeyPatch, name: str, other: type[ctypes.Structure], said: str
) -> None:
    other.__name__ = name
    structures = tuple(other if one.__name__ == name else one for one in native.STRUCTURES)
    monkeypatch.setattr(native, "STRUCTURES", structures)
    with pytest.raises(RuntimeError, match=said):
        native.opened(BUILT[0])


def test_a_library_without_a_table_of_fields_is_refused() -> None:
    assert native.differing(ctypes.CDLL(None)) == "its table of fields"


@pytest.mark.parametrize("build", BUILT, ids=[build.name for build in BUILT])
def test_every_field_of_the_headers_is_in_the_table(build: Build) -> None:
    """A field that is not in the table could differ unnoticed."""
    folder = Path(native.__file__).parent / "cpu"
    header, table = ((folder / name).read_text(encoding="utf-8") for name in ("network.h", "library.cpp"))
    assert f"LARGEST_HEAD = {native.LARGEST_HEAD};" in header
    assert f"WIDE = {native.WIDE};" in (folder / "product.h").read_text(encoding="utf-8")
    for structure, body in re.findall(r"struct (\w+) \{(.*?)\};", header, re.DOTALL):
        code = "".join(line.partition("//")[0] for line in body.splitlines())
        names = [part.split()[-1].lstrip("*") for line in code.split(";") for part in line.split(",") if part.strip()]
        assert f"WHOLE({structure})" in table
        assert [name for name in names if f"FIELD({structure}, {name})" not in table] == []
    assert native.differing(ctypes.CDLL(find_spec(build.module).origin)) is None  # type: ignore[union-attr]
