#!/usr/bin/env bash
# Puts into bundled/ what the extension installs if it finds no midspan: midspan's source package and constraints.txt,
# the versions it was tested with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
rm -rf "$here/bundled" && mkdir -p "$here/bundled"
cd "$root"
"$python" -c 'import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])' "$here/bundled" >/dev/null
cp constraints.txt LICENSE "$here/bundled/"
cp LICENSE "$here/"
