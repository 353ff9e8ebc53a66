# Sourced by what fetches an editor: packages of Debian's forky suite, downloaded from the host's own mirror and unpacked.

fail() { echo "$1" >&2; exit 1; }

mirror() { # prints the host's own Debian mirror, from its apt sources; nothing on other hosts
  for tool in apt-get dpkg-deb flock; do command -v "$tool" >/dev/null || return 0; done
  # shellcheck source=/dev/null
  . /etc/os-release
  [ "$ID" = debian ] || return 0
  local mirrors
  mirrors=$(apt-get --print-uris update | sed -n "s#^'\(.*\)/dists/$VERSION_CODENAME/InRelease'.*#\1#p")
  echo "${mirrors%%$'\n'*}"
}

download() { # mirror, scratch folder, packages: these and what they depend on come to lie in its archives/
  mkdir -p "$2/lists/partial" "$2/archives/partial"
  : >"$2/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $1 forky main" >"$2/sources.list"
  local apt=(apt-get -qq -o Dir::State="$2" -o Dir::State::status="$2/status" -o Dir::State::lists="$2/lists"
    -o Dir::Cache="$2" -o Dir::Cache::archives="$2/archives" -o Dir::Etc::sourcelist="$2/sources.list"
    -o Dir::Etc::sourceparts=- -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Acquire::Languages=none
    -o Acquire::Retries=3)
  "${apt[@]}" update && "${apt[@]}" --yes --download-only install "${@:3}"
}
