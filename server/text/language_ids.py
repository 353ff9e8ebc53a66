"""How editors name languages: a rule that makes their ids plain, and a table of what the rule does not reach.

Emacs adds `-mode` and `-ts-mode`, Vim joins filetypes by dots (`python.django`), many add a version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MODE = re.compile(r"(?:-(?:base|ts|mode))+\Z")
VERSION = re.compile(r"(?<=[a-z+#])[-.]?\d+(?:\.\d+)*\Z")
NAMED: dict[str, str] = {
    "python": "py pyi ipython cpython",
    "javascript": "js javascriptreact javascript.jsx jsx js-jsx rjsx mjs cjs node ecmascript es",
    "typescript": "ts mts cts",
    "tsx": "typescriptreact typescript.tsx typescript-tsx",
    "go": "golang",
    "rust": "rs rustic",
    "cpp": "c++ cxx cc hpp cuda-cpp cuda",
    "csharp": "c# cs",
    "ruby": "rb enh-ruby",
    "php": "phtml",
    "bash": "shellscript shell-script sh shell zsh ksh dash ash",
    "json": "jsonc json-with-comments jsonl",
    "yaml": "yml dockercompose docker-compose github-actions-workflow",
    "html": "xhtml htm mhtml",
    "markdown": "md gfm rmd quarto",
    "sql": "mysql pgsql postgresql plsql sqlite tsql",
    # What the rule would take for a language of the table, and is none.
    "plaintext": "text txt plain go.mod go.sum go.work",
}
ALIASES = {alias: name for name, aliases in NAMED.items() for alias in aliases.split()}


def spellings(language_id: str) -> Iterator[str]:
    """What an id may stand for, the likeliest first: as it is, plain, without what was added; each by its alias too."""
    plain = re.sub(r"[\s_/]+", "-", language_id.strip().lower())
    # Of filetypes joined by dots the first is the language.
    for whole in (plain, plain.partition(".")[0]):
        bare = MODE.sub("", whole)
        for spelling in (whole, bare, VERSION.sub("", bare)):
            yield ALIASES.get(spelling, spelling)
