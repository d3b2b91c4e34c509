"""Celery's no-op tasks on the run's RabbitMQ and Redis: durable, confirmed, acked late, results persisted.

    celery_noop.py AMQP_URL REDIS_URL TASKS WORKERS

prints tasks a second, from the first publish to the last result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from celery import Celery, group

AMQP = os.environ.get("BENCH_AMQP_URL", "")
app = Celery("noop", broker=AMQP, backend=os.environ.get("BENCH_REDIS_URL", ""))
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=64,
    broker_transport_options={"confirm_publish": True},
    task_default_delivery_mode="persistent",
    task_ignore_result=False,
    result_expires=600,
    task_default_queue="celery-noop",
)


@app.task(name="noop")
def noop(index: int) -> None:
    """Nothing."""


def main() -> int:
    amqp, redis, tasks, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    env = {**os.environ, "BENCH_AMQP_URL": amqp, "BENCH_REDIS_URL": redis}
    here = os.path.dirname(os.path.abspath(__file__))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_noop", "worker",
             "-P", "solo", "-n", f"w{i}@bench", "-l", "ERROR"],
            cwd=here, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for i in range(workers)
    ]  # fmt: skip
    try:
        app.conf.broker_url, app.conf.result_backend = amqp, redis
        while len(app.control.ping(timeout=1.0) or ()) < workers:
            if any(process.poll() is not None for process in started):
                sys.exit("a Celery worker ended")
        begun = time.perf_counter()
        group(noop.s(i) for i in range(tasks))().get(timeout=600)
        print(tasks / (time.perf_counter() - begun))
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
