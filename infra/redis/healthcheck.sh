#!/bin/sh
# A user that may do nothing but ping; while the append-only file is loaded, the answer is an error.
answer=$(REDISCLI_AUTH=$(cat /etc/redis-private/health) redis-cli --user health --no-auth-warning ping)
[ "$answer" = PONG ]
