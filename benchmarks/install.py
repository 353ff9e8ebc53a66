"""Size and seconds of a new environment: `install.py [PROJECT] [--extras NAMES]` prints them as JSON.

PROJECT is a checkout, by default this one. Its package is installed as `make venv` does, with the named extras. torch
is installed first and counted by itself. Sizes are sums of the files' lengths, in MB of 10^6 bytes. The environment is
removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def size_mb(folder: Path) -> float:
    """Size of all files below a folder, links left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 1e6)


def main(argv: list[str]) -> int:
    """Read the command line, make the environment, print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--extras", default="", help="extras of the package, with commas between them")
    found = parser.parse_args(argv)
    # Not an editable install: pip builds a wheel, and nothing stays in the project's folder.
    wanted = str(found.project.resolve()) + (f"[{found.extras}]" if found.extras else "")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place, with_pip=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        pip += ["--no-cache-dir", "--constraint", str(found.project / "constraints.txt")]
        sizes, seconds = [size_mb(place)], list[float]()
        for what in ("torch", wanted):
            began = time.perf_counter()
            subprocess.run([*pip, what], check=True, stdout=sys.stderr)
            seconds.append(round(time.perf_counter() - began, 1))
            sizes.append(size_mb(place))
        row = {"checkpoint": "embedded", "extras": found.extras}
        row |= {"torch_mb": sizes[1] - sizes[0], "torch_s": seconds[0]}
        row |= {"rest_mb": sizes[2] - sizes[1], "rest_s": seconds[1]}
        sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
