#!/bin/sh
# Stands in for the public image's entrypoint: options or a file alone mean redis-server; never runs as root.
set -e
case "${1:-}" in -*|*.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  # The public image is built without protected mode: only a configuration file turns it on.
  case "${2:-}" in
    ''|-*) shift; set -- redis-server --protected-mode no "$@" ;;
  esac
  if [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis:redis {} +
    exec setpriv --reuid=redis --regid=redis --init-groups "$@"
  fi
fi
exec "$@"
