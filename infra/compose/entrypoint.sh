#!/bin/sh
# Runs the command as the owner of /data, so that what jobs write there belongs to whoever owns that folder, and without
# any capability: where the owner is root, it is a root that can do nothing but own files.
set -eu
if [ "$(id -u)" != 0 ]; then exec "$@"; fi
uid=$(stat -c %u /data) gid=$(stat -c %g /data)
[ "$(stat -c %u "$MRQ_ROOT")" = "$uid" ] || chown "$uid:$gid" "$MRQ_ROOT"
export HOME=/tmp
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
