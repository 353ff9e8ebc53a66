"""The diff of a batch, as git takes it: any line ends, names, ends of files, and gaps that touch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midspan.server.batch.patch import Change, file_patch

TEN = b"".join(b"line %d\n" % number for number in range(10))


def changed(data: bytes, changes: list[Change]) -> bytes:
    """The file with its changes, the plain way."""
    parts, at = list[bytes](), 0
    for change in changes:
        parts += [data[at : change.begin], change.text]
        at = change.end
    return b"".join([*parts, data[at:]])


def applied(folder: Path, name: str, data: bytes, patch: bytes) -> bytes:
    """What git makes of a file by a patch."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    done = subprocess.run(["git", "apply", "-"], cwd=folder, input=patch, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return file.read_bytes()


def put(data: bytes, *pairs: tuple[bytes, bytes]) -> list[Change]:
    """Changes that replace each first text, found in order, by the second."""
    out, at = list[Change](), 0
    for old, new in pairs:
        begin = data.index(old, at)
        at = begin + len(old)
        out.append(Change(begin=begin, end=at, text=new))
    return out


CASES = {
    "one line": (TEN, put(TEN, (b"line 5", b"new"))),
    "two hunks, the first of which adds lines": (TEN, put(TEN, (b"line 0", b"a\nb\nc"), (b"line 9", b"z"))),
    "no newline at the end": (b"a\n...", [Change(begin=2, end=5, text=b"x")]),
    "no newline, and text behind the end": (b"# TODO", [Change(begin=6, end=6, text=b"\n    x")]),
    "a text behind the last line end": (b"a\n", [Change(begin=2, end=2, text=b"b")]),
    "two texts behind the last line end": (
        b"a\n",
        [Change(begin=2, end=2, text=b"b"), Change(begin=2, end=2, text=b"c\n")],
    ),
    "an empty file": (b"", [Change(begin=0, end=0, text=b"a\n")]),
    "CRLF": (b"a\r\n...\r\nb\r\n", [Change(begin=3, end=6, text=b"x\r\n  y")]),
    "lone CRs are one line": (b"a\r...\rb", [Change(begin=2, end=5, text=b"x\ry")]),
    "several on a line, touching": (b"(@@)\nb\n", put(b"(@@)\nb\n", (b"@", b"1\n2"), (b"@", b"3"))),
    "on lines that touch": (b"@\n@\n@\n", put(b"@\n@\n@\n", (b"@", b"1"), (b"@\n", b"2\n"), (b"@", b"3"))),
    "nothing left of a file": (b"a\n", [Change(begin=0, end=2, text=b"")]),
    "not ASCII": ("é…\n@\n𝛼\u2028\x0c\n".encode(), put("é…\n@\n𝛼\u2028\x0c\n".encode(), (b"@", "ß".encode()))),
}


@pytest.mark.parametrize("case", CASES)
def test_git_takes_the_patch(case: str, tmp_path: Path) -> None:
    data, changes = CASES[case]
    assert applied(tmp_path, "a.py", data, file_patch("a.py", data, changes)) == changed(data, changes)


@pytest.mark.parametrize("name", ["a b/c d.py", "größe/λ.py", 'a"b\\c.py', "tab\there.py", "-x.py"])
def test_any_name_of_a_file(name: str, tmp_path: Path) -> None:
    changes = put(TEN, (b"line 5", b"new"))
    assert applied(tmp_path, name, TEN, file_patch(name, TEN, changes)) == changed(TEN, changes)


def test_what_changes_nothing_is_no_patch() -> None:
    assert file_patch("a.py", TEN, []) == b""
    assert file_patch("a.py", TEN, put(TEN, (b"line 5", b"line 5"))) == b""


def test_far_changes_are_hunks_of_their_own_and_near_ones_are_one() -> None:
    data = b"".join(b"%d\n" % number for number in range(30))
    near = file_patch("a", data, put(data, (b"5", b"x"), (b"12", b"y")))
    far = file_patch("a", data, put(data, (b"5", b"x"), (b"13", b"y")))
    assert (near.count(b"\n@@ "), far.count(b"\n@@ ")) == (1, 2)


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"c\r\n", b"d"]), max_size=20).map(b"".join)


@settings(max_examples=25)
@given(LINES, st.lists(st.integers(0, 40), max_size=8), st.sampled_from([b"", b"x", b"x\n", b"\ny"]))
@example(b"a\nb", [3, 3], b"\ny")
def test_git_makes_what_the_changes_say(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: list[int], text: bytes
) -> None:
    ends = sorted(min(place, len(data)) for place in at)
    changes = [Change(begin=one, end=other, text=text) for one, other in zip(ends[::2], ends[1::2], strict=False)]
    patch = file_patch("a", data, changes)
    if not patch:
        assert changed(data, changes) == data
        return
    folder = tmp_path_factory.mktemp("any")
    assert applied(folder, "a", data, patch) == changed(data, changes)
