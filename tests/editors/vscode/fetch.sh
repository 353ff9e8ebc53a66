#!/usr/bin/env bash
# Puts the programs of the VS Code tests under .cache/vscode: Node 24, code-server (VS Code 1.139.1), Chromium,
# playwright-core, and axe-core for pages. About 1.2 GB, a minute or two. Nothing outside of .cache changes; nothing is
# fetched twice.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
cache=$root/.cache/vscode
NODE=24.21.0 CODE_SERVER=4.139.1 PLAYWRIGHT=1.65.1 AXE=4.14.1

say() { echo "vscode tests: $1" >&2; }
fail() { say "$1"; exit 1; }

npm_install() { # folder, packages or none for those that its package.json names
  (cd "$1" && npm install --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error "${@:2}" >&2)
}

fetch_node() {
  say "1 of 4: Node $NODE"
  case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) fail "no Node package for $(uname -m)" ;; esac
  mkdir -p "$cache/node" && echo '{"private": true}' >"$cache/node/package.json"
  npm_install "$cache/node" "node-linux-$arch@$NODE"
  mkdir -p "$cache/node/bin"
  ln -sfn "../node_modules/node-linux-$arch/bin/node" "$cache/node/bin/node"
}

fetch_playwright() {
  say "2 of 4: playwright-core $PLAYWRIGHT"
  mkdir -p "$cache/driver" && echo '{"private": true}' >"$cache/driver/package.json"
  npm_install "$cache/driver" "playwright-core@$PLAYWRIGHT"
}

fetch_axe() {
  npm_install "$cache/driver" "axe-core@$AXE"
}

fetch_code_server() {
  say "3 of 4: code-server $CODE_SERVER, about 700 MB unpacked"
  mkdir -p "$cache/server" && echo '{"private": true}' >"$cache/server/package.json"
  npm_install "$cache/server" "code-server@$CODE_SERVER"
  npm_install "$cache/server/node_modules/code-server/lib/vscode"
}

# Chromium and those of its libraries that this host lacks are unpacked, not installed.
fetch_chromium() {
  say "4 of 4: Chromium from this host's Debian mirror, about 100 MB"
  for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || fail "no $tool: put a chromium on PATH (only a Debian host can fetch its own)"
  done
  local state=$cache/apt
  mkdir -p "$state/lists/partial" "$state/archives/partial"
  local apt=(apt-get -qq -o Dir::State::lists="$state/lists" -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives"
    -o Debug::NoLocking=1 -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=3)
  "${apt[@]}" update >&2
  "${apt[@]}" --yes --download-only install chromium fonts-dejavu-core >&2
  rm -rf "$cache/chromium.new" && mkdir "$cache/chromium.new"
  for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$cache/chromium.new"; done
  write_launcher "$cache/chromium.new"
  mv "$cache/chromium.new" "$cache/chromium"
  rm -rf "$state"
}

write_launcher() { # unpacked folder
  cat >"$1/chromium" <<'LAUNCHER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
libs=$(ls -d "$root"/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH="$libs:$libs/pulseaudio" FONTCONFIG_FILE="$root/fonts.conf"
exec "$root/usr/lib/chromium/chromium" "$@"
LAUNCHER
  chmod +x "$1/chromium"
  cat >"$1/fonts.conf" <<FONTS
<?xml version="1.0"?>
<fontconfig>
  <dir>/usr/share/fonts</dir><dir>$cache/chromium/usr/share/fonts</dir>
  <cachedir>$cache/fonts</cachedir>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
FONTS
}

command -v npm >/dev/null || fail "no npm: install Node 20 or newer, then run make vscode again"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --timeout 600 9 || fail "another fetch holds $cache/lock for ten minutes: end it and run make vscode again"
# An interrupted step runs again, because its mark is written last.
step() { # name and version, command
  [ -e "$cache/$1.done" ] && return
  "$2" && touch "$cache/$1.done"
}
step "node-$NODE" fetch_node
step "playwright-$PLAYWRIGHT" fetch_playwright
step "axe-$AXE" fetch_axe
step "code-server-$CODE_SERVER" fetch_code_server
if ! command -v chromium >/dev/null; then step chromium fetch_chromium; fi
