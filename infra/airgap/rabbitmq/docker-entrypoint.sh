#!/bin/sh
# Stands in for the public image's entrypoint: the server runs as the user rabbitmq, logs to the console and, as PID 1,
# stops in order at SIGTERM (Debian's wrapper, /usr/sbin/rabbitmq-server, does neither).
set -e
if [ "$1" = rabbitmq-server ]; then
  shift
  set -- /usr/lib/rabbitmq/bin/rabbitmq-server "$@"
  if [ "$(id -u)" = 0 ]; then
    find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} +
    export HOME=/var/lib/rabbitmq
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$@"
  fi
fi
exec "$@"
