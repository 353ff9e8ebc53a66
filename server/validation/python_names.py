"""Names in a Python fill that nothing defines, by the symbol tables of Python's own compiler.

The compiler knows every scope that Python has: of classes and comprehensions, of `global` and `match`. A name is
undefined where the module's scope has to have it and neither binds it nor finds it among the built-in ones. The order
of statements does not count, so what is defined further down is defined. Strings are no code, whatever they hold.
"""

from __future__ import annotations

import builtins
import keyword
import re
import symtable
import warnings
from collections.abc import Collection, Iterator

from midspan.server.validation.splice import Objection, Splice

# About 10 ms of a core; of longer files nothing is said.
MAX_CHARS = 40_000
WORD = re.compile(r"[^\W\d]\w*")
# What may define names that no table has, or asks whether there is one.
DEFINES_UNSEEN = re.compile(
    r"\bimport\s*\(?\s*\*|\b(?:globals|exec|Import)\s*\(|\b(?:vars|locals)\s*\(\s*\)|\bNameError\b"
    r"|^def\s+__getattr__\b|\bsys\.modules\b",
    re.MULTILINE,
)
# Of modules and classes, of newer Pythons, of gettext, of notebooks and of type checkers.
KNOWN = frozenset(
    (
        *dir(builtins), *keyword.kwlist, "__file__", "__path__", "__cached__", "__builtins__", "__annotations__",
        "__module__", "__qualname__", "__version__", "WindowsError", "PythonFinalizationError", "exit", "quit",
        "copyright", "credits", "license", "_", "get_ipython", "display", "In", "Out", "spark", "dbutils",
        "reveal_type", "reveal_locals",
    )
)  # fmt: skip
# A name that is always defined and fits wherever a name does.
STAND_IN = "int"
# In a notebook's cell the other cells' names are defined, and in an interactive window's input those of its cells.
CELL = ("vscode-notebook-cell:", "vscode-interactive:", "vscode-interactive-input:")


def objection(splice: Splice) -> Objection | None:
    """What to say of a name that the fill brings, that nothing defines, and that was not used undefined before.

    Nothing where the text with the fill is no Python of the running version.
    """
    if splice.uri.startswith(CELL) or len(splice.before) + len(splice.fill) + len(splice.after) > MAX_CHARS:
        return None
    head, tail = _whole_words(splice)
    words = set(WORD.findall(head + splice.fill + tail)) - KNOWN
    if not words or DEFINES_UNSEEN.search(splice.text):
        return None
    for name in sorted(_undefined(splice.text, words)):
        # Without it in the fill: a name that is still undefined then was so before.
        other = re.sub(rf"\b{name}\b", STAND_IN, head + splice.fill + tail)
        before = splice.before.removesuffix(head) + other + splice.after.removeprefix(tail)
        if _parses(before) and not _undefined(before, {name}):
            said = f"uses `{name}`, which nothing here defines"
            return Objection(kind="name", words=said, spans=_spans(splice, head, tail, name))
    return None


def _spans(splice: Splice, head: str, tail: str, name: str) -> tuple[tuple[int, int], ...]:
    """Where the fill writes a name, or a part of it, but as an attribute."""
    begin = len(splice.before) - len(head)
    found = re.finditer(rf"(?<![.\w]){name}\b", head + splice.fill + tail)
    return tuple(span for one in found for span in splice.of_fill(begin + one.start(), begin + one.end()))


def _whole_words(splice: Splice) -> tuple[str, str]:
    """What the words at both ends of the fill have beside it."""
    head, tail = re.search(r"\w*\Z", splice.before), re.match(r"\w*", splice.after)
    return "" if head is None else head[0], "" if tail is None else tail[0]


def _undefined(text: str, names: Collection[str]) -> set[str]:
    """Those of the names that the text uses and nothing defines; none if it does not parse."""
    module = _table(text)
    if module is None:
        return set()
    used, defined = set[str](), set[str]()
    for table in _tables(module):
        known = table.get_identifiers()
        for symbol in (table.lookup(name) for name in names if name in known):
            bound = symbol.is_assigned() or symbol.is_imported()
            if table is module and (bound or symbol.is_declared_global()):
                defined.add(symbol.get_name())
            elif symbol.is_global():
                # What a function declares global and binds is defined, once the function has run.
                (defined if bound else used).add(symbol.get_name())
    return used - defined


def _parses(text: str) -> bool:
    return _table(text) is not None


def _table(text: str) -> symtable.SymbolTable | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's text, as for a backslash that escapes nothing
        try:
            return symtable.symtable(text, "", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep for it
            return None


def _tables(module: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    tables = [module]
    while tables:
        table = tables.pop()
        yield table
        tables.extend(table.get_children())
