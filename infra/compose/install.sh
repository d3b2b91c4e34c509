#!/bin/sh
# Inside `docker build`: the cluster's dependencies (`dependencies`), then mrq itself (`mrq`), into /opt/mrq.
set -eu
cd /src
wheels=--no-index
ls /wheelhouse/*.whl >/dev/null 2>&1 || wheels=--prefer-binary

install() {
  # pip asks the index for every package that it has at hand, and waits for one that can't be reached.
  python3 -m pip --python /opt/mrq/bin/python --disable-pip-version-check install --quiet --root-user-action=ignore \
    --no-cache-dir "$wheels" --find-links /wheelhouse -c constraints.txt "$@" && return
  echo "error: the packages could not be installed: run 'make images', which gets them with this machine's own pip" >&2
  return 1
}

case $1 in
  dependencies)
    python3 dependencies.py >/tmp/dependencies
    set -- -r /tmp/dependencies
    [ ! -f requirements.txt ] || set -- "$@" -r requirements.txt
    install "$@" ;;
  mrq)
    install --no-deps --no-build-isolation .
    python3 -m pip --python /opt/mrq/bin/python uninstall --quiet --root-user-action=ignore -y setuptools ;;
esac
