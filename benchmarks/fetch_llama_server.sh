#!/usr/bin/env bash
# Puts llama.cpp's llama-server under .cache/llama as `llama-server`, the opponent of versus_llama_server.py. On Debian it
# is unpacked from the forky suite, and the host stays as it is; elsewhere it is a link to the one on PATH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/.." && pwd)/.cache
final=$cache/llama

# shellcheck source=tests/editors/forky.sh
. "$here/../tests/editors/forky.sh"

# The backend that llama.cpp's own loader would take for this CPU, best first; it finds none outside its usual folder.
write_launcher() { # unpacked folder
  cat >"$1/llama-server" <<'LAUNCHER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
libs=$(dirname "$(ls "$root"/usr/lib/*/libc.so.6)")
backends=$libs/ggml/backends0
has() { grep -q -w "$1" /proc/cpuinfo; }
if has amx_int8; then name=sapphirerapids
elif has avx512_bf16; then name=zen4
elif has avx512_vnni; then name=icelake
elif has avx512f; then name=skylakex
elif has avx2; then name=haswell
else name=x64; fi
export GGML_BACKEND_PATH="$backends/libggml-cpu-$name.so"
exec "$(ls "$libs"/ld-linux-*.so.*)" --library-path "$libs:$libs/llama:$libs/ggml/backends0" \
  "$root/usr/bin/llama-server" "$@"
LAUNCHER
  chmod +x "$1/llama-server"
}

[ -x "$final/llama-server" ] && exit 0
source=$(mirror)
if [ -z "$source" ]; then
  installed=$(command -v llama-server) || fail "no llama-server: put one on PATH (only a Debian host can fetch its own)"
  mkdir -p "$final" && ln -sfn "$installed" "$final/llama-server"
  exit 0
fi
mkdir -p "$cache"
scratch=$(mktemp -d "$cache/llama.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
download "$source" "$scratch" llama.cpp-tools || fail "llama.cpp did not download from this host's Debian mirror: see apt's lines above, then run it again"
mkdir "$scratch/root"
for package in "$scratch"/archives/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done
write_launcher "$scratch/root"
"$scratch/root/llama-server" --version >/dev/null 2>&1 || fail "the fetched llama-server does not start: put another one on PATH"
rm -rf "$final" && mv "$scratch/root" "$final"
