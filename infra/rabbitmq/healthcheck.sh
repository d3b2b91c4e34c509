#!/bin/bash
# Does the AMQP port answer a greeting? rabbitmq-diagnostics asks the same with a second of processor time.
exec 3<>/dev/tcp/127.0.0.1/5672 && printf 'AMQP\0\0\11\1' >&3 && IFS= read -r -t 3 -N 1 -u 3 answer && [ "$answer" = $'\1' ]
