#!/usr/bin/env bash
# Puts Neovim 0.12 under .cache/nvim as `nvim`. On Debian it is unpacked from the forky suite, and the host stays as it
# is; elsewhere `nvim` is a link to the one on PATH.
set -euo pipefail
cache=$(cd "$(dirname "$0")/../.." && pwd)/.cache
final=$cache/nvim

. "$(dirname "$0")/forky.sh"

new_enough() { "$1" --clean --headless +'lua os.exit(vim.fn.has("nvim-0.12") == 1 and 0 or 1)' >/dev/null 2>&1; }

link_installed() {
  if ! installed=$(command -v nvim) || ! new_enough "$installed"; then
    fail "no Neovim >= 0.12: put one on PATH as nvim (only a Debian host can fetch its own)"
  fi
  mkdir -p "$final" && ln -sfn "$installed" "$final/nvim"
}

write_launcher() { # unpacked folder
  cat >"$1/nvim" <<'EOF'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
libs=$(dirname "$(ls "$root"/usr/lib/*/libc.so.6)")
export VIMRUNTIME="$root/usr/share/nvim/runtime"
export LUA_PATH="$root/usr/share/lua/5.1/?.lua;$root/usr/share/lua/5.1/?/init.lua"
export LUA_CPATH="$libs/lua/5.1/?.so"
exec "$(ls "$libs"/ld-linux-*.so.*)" --library-path "$libs" "$root/usr/bin/nvim" "$@"
EOF
  chmod +x "$1/nvim"
}

[ -x "$final/nvim" ] && exit 0
source=$(mirror)
[ -n "$source" ] || { link_installed; exit 0; }

mkdir -p "$cache"
exec 9>"$cache/nvim.lock"
flock --timeout 300 9 || fail "another fetch of Neovim holds $cache/nvim.lock for five minutes: end it and run make nvim again"
[ -x "$final/nvim" ] && exit 0
scratch=$(mktemp -d "$cache/nvim.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
download "$source" "$scratch" neovim || fail "Neovim did not download from this host's Debian mirror: see apt's lines above, then run make nvim again"
mkdir "$scratch/root"
for package in "$scratch"/archives/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done
write_launcher "$scratch/root"
new_enough "$scratch/root/nvim" || fail "the fetched Neovim does not start or is older than 0.12: put a newer nvim on PATH"
rm -rf "$final" && mv "$scratch/root" "$final"
