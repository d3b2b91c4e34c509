# What the scripts beside this file share. Source it; it runs nothing.
# shellcheck shell=bash

say() { printf '[images %4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { printf '[images %4ds] error: %s\n' "$SECONDS" "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n "$@"
  else die "needs root for: $* (run it as root, or install sudo)"
  fi
}

# The Debian mirror that this machine's own apt uses: nothing here names a host.
mirror() {
  local codename uri
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' 2>/dev/null |
    awk -v suite="$codename" '$2 == suite && $3 == "main" && $1 ~ /\/debian\/?$/ {print $1; exit}')
  [ -n "$uri" ] || die "this machine's apt sources name no Debian mirror (looked for suite '${codename:-?}', component main);
  the images are built from Debian's packages: add a Debian source to apt, or load the images with 'docker load'"
  echo "${uri%/}"
}

keyring() {
  local file=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -r "$file" ] || as_root apt-get install -qq -y --no-install-recommends debian-archive-keyring >/dev/null ||
    die "$file is missing and the package debian-archive-keyring could not be installed"
  echo "$file"
}

# Is the image there already? NAME:TAG
have() { docker image inspect "$1" >/dev/null 2>&1; }

need_docker() {
  command -v docker >/dev/null || die "docker is not installed"
  docker info >/dev/null 2>&1 || die "docker is installed, but its daemon does not answer ('docker info' says why)"
}
