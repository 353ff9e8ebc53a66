"""Code as a picture: `‸` marks the cursor, `├…┤` a selection or a fill."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parents[2] / "fixtures"


def read(path: Path) -> list[str]:
    """The sections of a picture file, separated by `=== ` lines; the first is the picture."""
    sections, text = [""], path.read_text(encoding="utf-8")
    for line in text.splitlines(keepends=True):
        if line.startswith("=== "):
            sections.append("")
        else:
            sections[-1] += line
    return sections


def named(path: Path) -> dict[str, str]:
    """The sections of a picture file by name; the picture's own name is empty."""
    names = [line[4:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("=== ")]
    return dict(zip(["", *names], read(path), strict=True))


def place(text: str) -> tuple[int, int]:
    """Line and column of the end of a text."""
    return text.count("\n"), len(text) - text.rfind("\n") - 1


def cut(picture: str) -> tuple[str, str, str]:
    """The text before, between and after the marks; empty between them where the mark is a cursor."""
    if "‸" in picture:
        before, after = picture.split("‸")
        return before, "", after
    before, rest = picture.split("├")
    between, after = rest.split("┤")
    return before, between, after
