"""The multilingual training text: packages, licences, files that are left out, and held-out packages."""

import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from midspan.engine.training.continued.packages import Archive, debian_licence, read_debian, read_npm, read_wheel
from midspan.engine.training.continued.source_text import TEST, is_humaneval, readable, wanted_paths
from midspan.engine.training.continued.sources import SOURCES, Collector, PackageRow, totals

PYTHON = "".join(f"def add_{i}(first, second):\n    return first + second * {i}\n\n\n" for i in range(6)).encode()
GO = b"package shop\n\n" + b"".join(b"func Total%d(a int, b int) int {\n\treturn a + b\n}\n\n" % i for i in range(8))
DEP5 = """Format: x

Files: *
Copyright: 2019 Somebody
License: {}

Files: debian/*
Copyright: 2020 Packager
License: GPL-3+

License: GPL-3+
 The text.
"""


def tarball(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_wheel_states_version_and_licence(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shop.whl", "w") as wheel:
        wheel.writestr("shop/a.py", PYTHON)
        wheel.writestr("shop/data.bin", b"x" * 500)
        wheel.writestr("shop-1.0.dist-info/METADATA", "Name: shop\nVersion: 1.0\nAuthor: Ünder\nLicense: MIT\n")
    archive = read_wheel("shop", tmp_path / "shop.whl")
    assert (archive.version, archive.licence) == ("1.0", "MIT")
    assert archive.files["shop/a.py"] == PYTHON
    assert "shop/data.bin" not in archive.files


@pytest.mark.parametrize(
    ("stated", "licence"),
    [("MIT", "MIT"), ({"type": "ISC"}, "ISC"), ("GPL-3.0", None), ("(MIT OR GPL-3.0)", None), ("SEE LICENSE", None)],
)
def test_an_npm_tarball_states_version_and_licence(tmp_path: Path, stated: object, licence: str | None) -> None:
    package = json.dumps({"version": "2.0", "license": stated}).encode()
    (tmp_path / "shop.tgz").write_bytes(tarball({"package/package.json": package, "package/src/a.ts": b"let a = 1"}))
    archive = read_npm("shop", tmp_path / "shop.tgz")
    assert (archive.version, archive.licence) == ("2.0", licence)
    assert archive.files["src/a.ts"] == b"let a = 1"


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("Expat", "Expat"),
        ("MIT or Apache-2.0", "MIT or Apache-2.0"),
        ("GPL-2+", None),
        ("MPL-2.0", None),
        ("Custom", None),
    ],
)
def test_debian_s_copyright_file_gives_the_licence_without_that_of_the_packaging(
    stated: str, licence: str | None
) -> None:
    assert debian_licence(DEP5.format(stated)) == licence


def test_a_copyright_file_in_another_form_has_no_licence() -> None:
    assert debian_licence("This package was debianized by Somebody. License: MIT, see below.") is None


def test_a_debian_package_is_read_without_unpacking_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, content in (("DEBIAN/control", b"Package: golang-shop-dev\nVersion: 1.2-1\nArchitecture: all\n"
                           b"Maintainer: Somebody <a@example.org>\nDescription: shop\n"),
                          ("usr/share/doc/golang-shop-dev/copyright", DEP5.format("BSD-3-clause").encode()),
                          ("usr/share/gocode/src/shop/shop.go", GO)):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    made = tmp_path / "golang-shop-dev_1.2-1_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, made], check=True, capture_output=True, timeout=60)
    archive = read_debian("golang-shop-dev", made)
    assert (archive.version, archive.licence) == ("1.2-1", "BSD-3-clause")
    assert archive.files["usr/share/gocode/src/shop/shop.go"] == GO


@pytest.mark.parametrize(
    ("language", "paths", "kept"),
    [
        ("javascript", ["src/a.ts", "src/a.d.ts", "lib/a.js", "dist/a.js"], ["src/a.ts"]),
        ("javascript", ["lib/a.js", "dist/a.js", "lib/a.min.js", "node_modules/b/c.js"], ["lib/a.js"]),
        ("go", ["shop/a.go", "shop/a.pb.go", "vendor/b.go", "shop/testdata/c.go"], ["shop/a.go"]),
        ("rust", ["src/lib.rs", "src/lib.rs.orig", "README.md"], ["src/lib.rs"]),
        ("python", ["a/b.py", "a/_vendor/c.py", "a/b_pb2.py"], ["a/b.py"]),
    ],
)
def test_source_files_are_told_from_vendored_and_built_files(language: str, paths: list[str], kept: list[str]) -> None:
    assert wanted_paths(paths, language) == kept


@pytest.mark.parametrize("path", ["a/b_test.go", "src/a.spec.ts", "tests/a.rs", "pkg/__tests__/a.js", "a/test_b.py"])
def test_tests_are_known_by_their_path(path: str) -> None:
    assert TEST.search(path)


@pytest.mark.parametrize("path", ["src/contest.rs", "lib/latest.js", "a/attest.py", "protest/a.go"])
def test_paths_with_words_that_end_in_test_are_no_tests(path: str) -> None:
    assert not TEST.search(path)


def test_source_is_read_with_lf_line_ends() -> None:
    assert readable(b"\xef\xbb\xbf" + GO.replace(b"\n", b"\r\n"), "go") == GO.decode()


@pytest.mark.parametrize(
    ("content", "language"),
    [
        (b"// Code generated by protoc. DO NOT EDIT.\n" + GO, "go"),
        (b'"use strict";\nObject.defineProperty(exports, "__esModule", { value: true });\n' + GO, "javascript"),
        (b"var a=function(b){return b};" * 30 + b"\n", "javascript"),
        (b"let table = [\n" + b"    0x12, 0x34, 0x56, 0x78, 0x90,\n" * 60 + b"];\n", "rust"),
        (PYTHON + b"def (:\n", "python"),
        (b"\xff\xfe" + GO, "go"),
        (b"package a\n", "go"),
    ],
)
def test_generated_and_unusable_files_are_left_out(content: bytes, language: str) -> None:
    assert readable(content, language) is None


def test_a_file_with_two_functions_of_humaneval_counts_as_a_copy_of_it() -> None:
    one = "def has_close_elements(numbers, threshold):\n    return False\n"
    assert not is_humaneval(one)
    assert is_humaneval(one + "def car_race_collision(n):\n    return n * n\n")


def archive_of(name: str, files: dict[str, bytes]) -> Archive:
    return Archive(name=name, version="1", licence="MIT", files=files)


def row_of(name: str, split: str, language: str = "python") -> PackageRow:
    return PackageRow(name=name, language=language, split=split, licence="MIT")


def test_a_copy_of_a_held_out_file_is_kept_out_of_training_and_benchmarks_are_counted() -> None:
    collector = Collector({"total": {"Sum the prices."}}, seed=0)
    held, trained = row_of("shop", "heldout"), row_of("copy", "train")
    bench = b'def total(items):\n    """Sum the prices."""\n' + PYTHON.replace(b"add", b"sub")
    assert [file.path for file in collector.keep(archive_of("shop", {"shop/a.py": PYTHON}), held)] == ["shop/a.py"]
    assert list(collector.keep(archive_of("copy", {"copy/a.py": PYTHON, "copy/b.py": bench}), trained)) == []
    assert trained.benchmark_files_dropped == 1
    assert totals([held, trained])["train"]["python"]["files"] == 0
    assert totals([held, trained])["heldout"]["python"] == {"packages": 1, "files": 1, "bytes": len(PYTHON)}


def test_no_package_is_both_held_out_and_trained_on_and_every_language_has_both() -> None:
    for language, source in json.loads(SOURCES.read_text()).items():
        held, trained = set(source["heldout"]), set(source["train"])
        assert not {name.lower() for name in held} & {name.lower() for name in trained}
        assert len(trained) == len(source["train"]) >= 10
        assert len(held) >= (3 if language == "c" else 4)
