#!/usr/bin/env bash
# Puts Emacs with lsp-mode under .cache/emacs as `emacs`: unpacked from Debian's forky suite, the host untouched.
# emacs/packages.lock says which builds of Emacs and of the Lisp packages; `--update` writes it anew from what forky has.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache
final=$cache/emacs
lock=$here/emacs/packages.lock

# shellcheck source=tests/editors/forky.sh
. "$here/forky.sh"
say() { echo "Emacs tests: $1" >&2; }

write_launcher() { # unpacked folder
  cat >"$1/emacs" <<'LAUNCHER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
libs=$(dirname "$(ls "$root"/usr/lib/*/libc.so.6)")
share=$(ls -d "$root"/usr/share/emacs/[0-9]*)
programs=$(ls -d "$root"/usr/libexec/emacs/*/*)
export EMACSLOADPATH="$share/lisp" EMACSDATA="$share/etc" EMACSDOC="$share/etc" EMACSPATH="$programs"
exec "$(ls "$libs"/ld-linux-*.so.*)" --library-path "$libs" "$root/usr/bin/emacs-nox" \
  --dump-file="$(ls "$programs"/*.pdmp)" "$@"
LAUNCHER
  chmod +x "$1/emacs"
}

unpack() { # archives, folder: all but what only building a package takes
  local package
  for package in "$1"/*.deb; do
    case ${package##*/} in emacs-el_* | binutils* | libbinutils* | libc6-dev_* | libgcc-*-dev_* | linux-libc-dev_* | lib*san*_*) continue ;; esac
    dpkg-deb -x "$package" "$2"
  done
}

# Nothing is compiled to native code: that would take a C compiler, and the launcher's libraries in its environment.
compile() { # unpacked folder: the Lisp packages to byte code, as installing them would
  local lisp=$1/usr/share/emacs/site-lisp/elpa-src
  find "$lisp" -name '*.el' ! -name '*-pkg.el' ! -name '*-autoloads.el' -print0 | sort -z |
    xargs -0 "$1/emacs" -Q --batch --eval "(progn
      (setq byte-compile-warnings nil native-comp-jit-compilation nil native-comp-enable-subr-trampolines nil)
      (dolist (folder (directory-files \"$lisp\" t \"^[^.]\")) (push folder load-path)))" \
      -f batch-byte-compile >"$1/compile.log" 2>&1
}

[ "${1:-}" = --update ] || { [ -x "$final/emacs" ] && cmp -s "$lock" "$final/packages.lock" && exit 0; }
source=$(mirror)
[ -n "$source" ] || fail "no apt-get, dpkg-deb and flock of Debian's: only a Debian host can fetch Emacs; test the other editors by pytest -m 'vscode or not emacs' tests/editors"

mkdir -p "$cache"
exec 9>"$cache/emacs.lock"
flock --timeout 600 9 || fail "another fetch of Emacs holds $cache/emacs.lock for ten minutes: end it and run make emacs again"
[ "${1:-}" = --update ] || { [ -x "$final/emacs" ] && cmp -s "$lock" "$final/packages.lock" && exit 0; }
scratch=$(mktemp -d "$cache/emacs.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
say "1 of 3: Emacs and lsp-mode from this host's Debian mirror, about 100 MB"
download "$source" "$scratch" emacs-nox elpa-lsp-mode ||
  fail "Emacs did not download from this host's Debian mirror: see apt's lines above, then run make emacs again"
cd "$scratch/archives"
[ "${1:-}" != --update ] || sha256sum emacs-nox_*.deb emacs-common_*.deb elpa-*.deb >"$lock"
sha256sum --check --quiet --strict "$lock" >&2 ||
  fail "forky's Emacs or lsp-mode is not that of $lock: run tests/editors/fetch_emacs.sh --update, then the tests, and commit the lock"
say "2 of 3: unpacking"
mkdir "$scratch/root"
unpack "$scratch/archives" "$scratch/root"
write_launcher "$scratch/root"
"$scratch/root/emacs" -Q --batch --eval '(kill-emacs (if (>= emacs-major-version 30) 0 1))' ||
  fail "the fetched Emacs does not start or is older than 30: this host cannot run forky's programs"
say "3 of 3: compiling the Lisp packages"
compile "$scratch/root" || fail "lsp-mode did not compile: $(tail -n 1 "$scratch/root/compile.log")"
cp "$lock" "$scratch/root/packages.lock"
rm -rf "$final" && mv "$scratch/root" "$final"
