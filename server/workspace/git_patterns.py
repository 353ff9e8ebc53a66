"""The patterns of a `.gitignore` file, as git reads them (gitignore(5), and what `git check-ignore` answers).

Git matches bytes: `?` is one byte of UTF-8, not one character. `*` stays within a folder; `**` crosses folders where it
stands alone between slashes, and also right behind a pattern's plain beginning (`/lib**/x`), which git compares by
itself. A pattern that is malformed matches nothing.

A pattern may come from anybody, so none may take long. What stands between two stars is matched where it fits first
and never tried again (atomic groups): for the stars of one folder's name, and for what stands between two `**`, the
first place leaves the rest at least as much room as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

SPECIAL = b"*?[\\"
STAR, ANY_FOLDERS, SOME_FOLDERS, ANYTHING = b"[^/]*", b"(?:.*?/)??", b".*?/", b".*"
GLOBSTARS = (ANY_FOLDERS, SOME_FOLDERS, ANYTHING)
BOM = b"\xef\xbb\xbf"
CLASSES = {
    b"alnum": "0-9A-Za-z", b"alpha": "A-Za-z", b"blank": " \t", b"cntrl": "\0-\x1f\x7f", b"digit": "0-9",
    b"graph": "!-~", b"lower": "a-z", b"print": " -~", b"punct": "!-/:-@[-`{-~", b"space": " \t\n\v\f\r",
    b"upper": "A-Z", b"xdigit": "0-9A-Fa-f",
}  # fmt: skip


class Malformed(ValueError):
    """A pattern that matches nothing."""


@dataclass(frozen=True)
class Pattern:
    """One line: what it matches, and what that means. A `whole` one is matched with the path, others with the name."""

    glob: bytes
    negated: bool
    folders_only: bool
    whole: bool
    fold_case: bool

    @cached_property
    def _match(self) -> re.Pattern[bytes] | None:
        try:
            source = translate(self.glob)
        except Malformed:
            return None
        return re.compile(source, re.DOTALL | (re.IGNORECASE if self.fold_case else 0))

    def matches(self, text: bytes) -> bool:
        """Whether it matches a path below the file's folder, or a name."""
        return self._match is not None and self._match.fullmatch(text) is not None


@dataclass(frozen=True)
class Rules:
    """The patterns of one file: plain names by their line, all others by their line in order."""

    others: list[tuple[int, Pattern]] = field(default_factory=list)
    names: dict[tuple[bytes, bool], tuple[int, bool]] = field(default_factory=dict)
    fold_case: bool = False

    def __bool__(self) -> bool:
        return bool(self.others or self.names)

    def say(self, path: bytes, *, folder: bool) -> bool | None:
        """Whether a path below the file's folder is ignored, by the last line that matches it; None where none does."""
        name = path.rpartition(b"/")[2]
        key = name.lower() if self.fold_case else name
        line, said = self.names.get((key, False), (-1, None))
        if folder:
            line, said = max((line, said), self.names.get((key, True), (-1, None)), key=lambda found: found[0])
        for number, pattern in reversed(self.others):
            if number < line:
                break
            if (folder or not pattern.folders_only) and pattern.matches(path if pattern.whole else name):
                return not pattern.negated
        return said


@lru_cache(maxsize=512)
def parse(data: bytes, *, fold_case: bool = False) -> Rules:
    """The rules in a file's bytes."""
    rules = Rules(fold_case=fold_case)
    for number, line in enumerate(data.removeprefix(BOM).split(b"\n")):
        pattern = _pattern(line.removesuffix(b"\r").partition(b"\0")[0], fold_case=fold_case)
        if pattern is None:
            continue
        if pattern.whole or any(byte in SPECIAL for byte in pattern.glob):
            rules.others.append((number, pattern))
        else:
            name = pattern.glob.lower() if fold_case else pattern.glob
            rules.names[name, pattern.folders_only] = number, not pattern.negated
    return rules


def _pattern(line: bytes, *, fold_case: bool) -> Pattern | None:
    """A line's pattern; None for a comment and where nothing is left."""
    if line.startswith(b"#"):
        return None
    glob = _without_blanks(line)
    negated = glob.startswith(b"!")
    glob = glob[1:] if negated else glob
    folders_only = glob.endswith(b"/")
    glob = glob[:-1] if folders_only else glob
    if not glob:
        return None
    return Pattern(glob, negated, folders_only, whole=b"/" in glob, fold_case=fold_case)


def _without_blanks(line: bytes) -> bytes:
    """A line without the blanks at its end; one behind a backslash stays."""
    end = len(line.rstrip(b" "))
    if end == len(line):
        return line
    backslashes = end - len(line[:end].rstrip(b"\\"))
    return line[: end + backslashes % 2]


def translate(glob: bytes) -> bytes:
    """A regular expression for the whole of a path or a name. Raises Malformed."""
    units: list[tuple[bytes, list[list[bytes]]]] = [(b"", [[]])]  # what opens a unit, and its runs between stars
    for token in _tokens(glob.removeprefix(b"/")):
        if token in GLOBSTARS:
            units.append((token, [[]]))
        elif token == STAR:
            units[-1][1].append([])
        else:
            units[-1][1][-1].append(token)
    out = []
    for number, (opening, runs) in enumerate(units):
        last = number == len(units) - 1
        body = opening + _unit(runs, ends=last)
        out.append(body if last or not opening else b"(?>" + body + b")")
    return b"".join(out)


def _unit(runs: list[list[bytes]], *, ends: bool) -> bytes:
    """Runs of single bytes with a star between each two; the last one stands at the end, if the unit does."""
    first, *rest = [b"".join(run) for run in runs]
    if not rest:
        return first
    tail = STAR + rest.pop() if ends else b""
    return first + b"".join(b"(?>[^/]*?" + run + b")" for run in rest) + tail


def _tokens(glob: bytes) -> Iterator[bytes]:
    """STAR, one of GLOBSTARS, or a regular expression of one byte."""
    plain = next((at for at, byte in enumerate(glob) if byte in SPECIAL), len(glob))
    at = 0
    while at < len(glob):
        byte = glob[at : at + 1]
        if byte == b"*":
            end = at + len(glob[at:]) - len(glob[at:].lstrip(b"*"))
            crosses = end - at > 1 and (at == plain or glob[at - 1 : at] == b"/")
            if crosses and end == len(glob):
                yield ANYTHING
            elif crosses and glob[end : end + 1] == b"/":
                yield ANY_FOLDERS
                end += 1
            elif crosses and glob[end : end + 2] == b"\\/":
                yield SOME_FOLDERS
                end += 2
            else:
                yield STAR
            at = end
        elif byte == b"?":
            yield b"[^/]"
            at += 1
        elif byte == b"[":
            token, at = _one_of(glob, at + 1)
            yield token
        else:
            at += byte == b"\\"
            if at == len(glob):
                raise Malformed
            yield re.escape(glob[at : at + 1])
            at += 1


def _one_of(glob: bytes, at: int) -> tuple[bytes, int]:
    """The class that begins behind a bracket at `at`, and where it ends. The first byte in it is never its end."""
    negated = glob[at : at + 1] in (b"!", b"^")
    at += negated
    chosen, begin, before = set[int](), at, -1
    while at == begin or glob[at : at + 1] != b"]":
        if at >= len(glob):
            raise Malformed
        if glob.startswith(b"[:", at) and (end := glob.find(b"]", at + 2)) < 0:
            raise Malformed
        if glob.startswith(b"[:", at) and end > at + 2 and glob[end - 1 : end] == b":":
            chosen |= _named(glob[at + 2 : end - 1])
            before, at = -1, end + 1
        elif before >= 0 and glob[at : at + 1] == b"-" and glob[at + 1 : at + 2] not in (b"", b"]"):
            high, at = _literal(glob, at + 1)
            chosen |= set(range(before, high + 1))
            before = -1
        else:
            before, at = _literal(glob, at)
            chosen.add(before)
    if negated:
        chosen = set(range(256)) - chosen
    chosen.discard(ord("/"))
    if not chosen:
        raise Malformed
    return b"[" + b"".join(b"\\x%02x" % one for one in sorted(chosen)) + b"]", at + 1


def _literal(glob: bytes, at: int) -> tuple[int, int]:
    """The byte at a place of a class, and where the next one is; a backslash takes the next byte as it is."""
    at += glob[at : at + 1] == b"\\"
    if at >= len(glob):
        raise Malformed
    return glob[at], at + 1


def _named(name: bytes) -> set[int]:
    if name not in CLASSES:
        raise Malformed
    matcher = re.compile(f"[{re.escape(CLASSES[name]).replace(re.escape('-'), '-')}]")
    return {one for one in range(128) if matcher.match(chr(one))}
