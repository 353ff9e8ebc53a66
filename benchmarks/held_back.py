"""How much ordinary code the filter of secrets holds back: the share of lines of Python's standard library.

`python benchmarks/held_back.py [--tests]` prints one JSON object; with `--tests` the library's tests count as well. The
library holds few secrets, so nearly all of the share is ordinary code that is lost to the lines of other files.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
import time
from pathlib import Path

from midspan.engine import bare_lines
from midspan.server.workspace.secrets_in_text import without_secrets

LEFT_OUT = {"site-packages", "lib2to3", "idlelib"}


def main() -> None:
    parser = argparse.ArgumentParser(description="the share of the standard library's lines that are held back")
    parser.add_argument("--tests", action="store_true", help="the library's tests as well")
    left_out = LEFT_OUT if parser.parse_args().tests else LEFT_OUT | {"test"}
    library = Path(sysconfig.get_path("stdlib"))
    lines = kept = 0
    began = time.process_time()
    for path in sorted(library.rglob("*.py")):
        if left_out.isdisjoint(path.relative_to(library).parts):
            text = bare_lines(path.read_text("utf-8", "replace"))
            lines += len(text)
            kept += len(without_secrets(text, "python"))
    seconds = time.process_time() - began
    row = {"lines": lines, "held_back": (lines - kept) / lines, "us_a_line": 1e6 * seconds / lines}
    print(json.dumps(row))  # noqa: T201


if __name__ == "__main__":
    main()
