#!/usr/bin/env bash
# Installs the given wheel in a new environment, as a user does, and fills a gap there without network access.
set -euo pipefail
wheel=$(realpath "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
pip() { "$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" "$@"; }
"${PYTHON:-python3}" -m venv "$place/venv"
pip torch
pip "$wheel"
cd "$place"
printf 'def add(a, b):\n    return \n\n\nprint(add(1, 2))\n' > add.py
offline=()
# In a network namespace of its own nothing can be reached.
if unshare --map-root-user --net true 2>/dev/null; then offline=(unshare --map-root-user --net); fi
"${offline[@]}" venv/bin/midspan fill add.py --at 2:12 --json | grep -q '"text": "[^"]'
venv/bin/python - <<'PYTHON'
from pathlib import Path

import midspan.engine

midspan.engine.prepare()
import torch

from midspan.kernels.native import library

torch.zeros(600, 600) @ torch.zeros(600, 600)
found = library()
runtimes = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "gomp" in line or "omp.so" in line}
print(f"{Path(found.functions._name).name}, OpenMP of {len(runtimes)}: {', '.join(sorted(Path(one).name for one in runtimes))}")
assert len(runtimes) == 1, runtimes
PYTHON
echo "${wheel##*/}: $(($(stat -c %s "$wheel") / 1000)) kB, installed and filled a gap"
