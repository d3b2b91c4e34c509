"""`make bench-cluster`: the cluster beside the embedded engine and its peers, in one run on one machine.

RabbitMQ and Redis run in containers, one master and two workers as processes. Word count and sort: the time
of a cluster's submit over that of the embedded engine (goal: at most 1.3), with the workers' folders on one
disk, and apart, through gRPC. No-op tasks: 10,000 maps that yield nothing, from submit to result (goal: 2,000
a second), beside Celery on the same servers, and on the cluster of compose.yaml with two workers (goal:
1,500). A job of one task from an open client (goal: 150 ms). Idle workers: what 200 of them cost the master
(goal: 10% of a core).

    python benchmarks/cluster.py [--rounds 3] [--mib 256] [--records 5000000] [--tasks 10000] [--only …]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from cluster_rig import Cluster, cluster, composed, cpu_s
from run import HERE, digest, make_data

IDLE_WORKERS = 200
IDLE_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256, help="of text for word count")
    parser.add_argument("--records", type=int, default=5_000_000, help="of 100 bytes to sort")
    parser.add_argument("--tasks", type=int, default=10_000, help="that do nothing")
    parser.add_argument("--only", default="jobs,apart,noop,compose,latency,idle")
    parser.add_argument("--folder", default=os.path.join(tempfile.gettempdir(), "mrq-bench"))
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    chosen = set(args.only.split(","))
    work = os.path.join(args.folder, "cluster")
    shutil.rmtree(work, ignore_errors=True)
    if chosen & {"jobs", "noop", "latency", "idle"}:
        with cluster(work) as made:
            if "jobs" in chosen:
                jobs(made, args, "one disk")
            if "noop" in chosen:
                noop(made, args)
            if "latency" in chosen:
                latency(made, args)
            if "idle" in chosen:
                idle(made)
    if "apart" in chosen:
        shutil.rmtree(work, ignore_errors=True)
        with cluster(work, apart=True) as made:
            jobs(made, args, "folders apart, through gRPC")
    if "compose" in chosen:
        shutil.rmtree(work, ignore_errors=True)
        with composed(work) as compose:
            noop_composed(work, compose, args)
    return 0


def submit(made: Cluster | None, job: str, source: str, out: str, *flags: str) -> float:
    """Seconds of one submit, embedded without a cluster."""
    command = [
        sys.executable, "-m", "mrq.submit", f"{HERE}/jobs.py:{job}", source,
        "-o", out, "--overwrite", "-q", *flags,
    ]  # fmt: skip
    hidden = ("MRQ_AMQP_URL", "MRQ_REDIS_URL")
    env = made.env if made is not None else {k: v for k, v in os.environ.items() if k not in hidden}
    started = time.perf_counter()
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{job} failed:\n{done.stderr.decode()[-3000:]}")
    return took


def jobs(made: Cluster, args: argparse.Namespace, where: str) -> None:
    """Word count and sort, embedded and on the cluster in turn."""
    words, records, _ = make_data(args.folder, args.mib, args.records)
    print(f"## word count and sort, workers on {where} (answers agree byte for byte)\n")
    print(f"| job | embedded, median s | cluster, median s | cluster / embedded |\n|{'---|' * 4}")
    for job, source, flags in (("WordCount", words, ()), ("Sort", records, ("-R", "16"))):
        outs = {name: os.path.join(args.folder, f"out-{name}-{job}") for name in ("embedded", "cluster")}
        times: dict[str, list[float]] = {"embedded": [], "cluster": []}
        for _ in range(args.rounds):
            times["embedded"].append(submit(None, job, source, outs["embedded"], *flags))
            times["cluster"].append(submit(made, job, source, outs["cluster"], *flags))
        answers = {digest(f"cat {out}/part-* | sha256sum") for out in outs.values()}
        if len(answers) > 1:
            sys.exit(f"{job}: the answers differ")
        ratio = statistics.median(c / e for c, e in zip(times["cluster"], times["embedded"], strict=True))
        middle = {name: statistics.median(taken) for name, taken in times.items()}
        print(f"| {job} | {middle['embedded']:.2f} | {middle['cluster']:.2f} | {ratio:.2f} |", flush=True)
    print()


def noop(made: Cluster, args: argparse.Namespace) -> None:
    """Tasks a second, end to end, in turn with Celery."""
    source = lines_of(args.folder, args.tasks)
    peer = [
        sys.executable, f"{HERE}/peers/celery_noop.py", made.amqp_url, made.redis_url, str(args.tasks), "2",
    ]  # fmt: skip
    ours, theirs = [], []
    for _ in range(args.rounds):
        out = os.path.join(args.folder, "out-noop")
        ours.append(args.tasks / submit(made, "Noop", source, out, "-R", "1", "--split-size", "16"))
        done = subprocess.run(peer, capture_output=True, check=True)
        theirs.append(float(done.stdout))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"## {args.tasks:,} tasks that do nothing, 2 workers\n")
    print(f"| | median tasks/s | ratio |\n|{'---|' * 3}")
    print(f"| mrq | {statistics.median(ours):,.0f} | {ratio:.2f} |")
    print(f"| Celery | {statistics.median(theirs):,.0f} | 1 |\n", flush=True)


def noop_composed(folder: str, compose: Callable[..., float], args: argparse.Namespace) -> None:
    """Tasks a second on the cluster of compose.yaml, from `docker compose run` to its end: the container's
    start, shown beside it, is in it."""
    shutil.copy(os.path.join(HERE, "jobs.py"), folder)
    source = os.path.basename(lines_of(os.path.join(folder, "data"), args.tasks))
    run = ("run", "--rm", "-T", "submit")
    job = ("jobs.py:Noop", f"/data/{source}", "-o", "/data/out", "--overwrite", "-q", "-R", "1")
    rates, starts = [], []
    for _ in range(args.rounds):
        rates.append(args.tasks / compose(*run, *job, "--split-size", "16"))
        starts.append(compose(*run, "--help"))
    print(f"## {args.tasks:,} tasks that do nothing, compose.yaml with 2 workers\n")
    print(f"| | median tasks/s | lowest and highest | a container's start, s |\n|{'---|' * 4}")
    middle, start = statistics.median(rates), statistics.median(starts)
    print(f"| mrq | {middle:,.0f} | {min(rates):,.0f}, {max(rates):,.0f} | {start:.2f} |\n", flush=True)


def lines_of(folder: str, count: int) -> str:
    """A file of so many lines of 16 bytes: a split each with `--split-size 16`."""
    path = os.path.join(folder, f"lines-{count}")
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{i:015d}\n" for i in range(count))
    return path


def latency(made: Cluster, args: argparse.Namespace) -> None:
    """A job of one task from an open client, warm."""
    source = os.path.join(args.folder, "tiny.txt")
    with open(source, "w", encoding="utf-8") as file:
        file.write("a tiny job\n")
    program = (
        "import statistics, sys, time, mrq, jobs\n"
        "with mrq.connect() as engine:\n"
        "    times = []\n"
        "    for i in range(25):\n"
        "        begun = time.perf_counter()\n"
        "        engine.run(jobs.WordCount(), [sys.argv[1]], sys.argv[2], overwrite=True, reducers=1)\n"
        "        times.append(time.perf_counter() - begun)\n"
        "    print(*times[5:])\n"
    )
    out = os.path.join(args.folder, "out-latency")
    done = subprocess.run(
        [sys.executable, "-c", program, source, out], env=made.env, cwd=HERE, capture_output=True, check=True
    )
    times = sorted(1000 * float(word) for word in done.stdout.split())
    print("## a job of one map and one reduce, from an open client\n")
    print(f"median {statistics.median(times):.0f} ms, min {times[0]:.0f}, max {times[-1]:.0f}\n", flush=True)


def idle(made: Cluster) -> None:
    """What beats of workers that do nothing cost the master."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_beats, args=(made, index, IDLE_WORKERS // 10, stop)) for index in range(10)
    ]
    master = made.processes[0].pid
    before = _share(lambda: cpu_s(master))
    for thread in threads:
        thread.start()
    time.sleep(3)
    during = _share(lambda: cpu_s(master))
    stop.set()
    for thread in threads:
        thread.join()
    print(f"## {IDLE_WORKERS} more idle workers\n")
    print(f"the master used {before:.1%} of a core before and {during:.1%} with them\n", flush=True)


def _share(spent: Callable[[], float]) -> float:
    at, used = time.perf_counter(), spent()
    time.sleep(IDLE_S)
    return (spent() - used) / (time.perf_counter() - at)


def _beats(made: Cluster, group: int, count: int, stop: threading.Event) -> None:
    """Beats of `count` workers, a second apart."""
    from mrq.adapters import redis
    from mrq.core.model import Beat, Slots

    connection = redis.connect(made.redis_url, prefix="mrq", wait_s=10.0)
    store = redis.RedisWorkerStore(connection)  # what a worker's own agent beats through
    seq = 0
    while not stop.is_set():
        seq += 1
        begun = time.perf_counter()
        for i in range(count):
            slots = Slots(map=0, reduce=0, total=0)
            store.beat(Beat(worker=f"idle-{group}-{i}", boot="b", seq=seq, slots=slots))
        stop.wait(max(0.0, 1.0 - (time.perf_counter() - begun)))
    store.close()
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
