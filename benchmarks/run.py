"""`make bench`: mrq beside its peers, in one run, on the same data and cores.

Every program is a process of its own, timed from its start to its end, interpreter and JVM included, in
turn (A B C, A B C, …), so that a slow minute of the machine hits all of them. The table gives medians and,
since seconds differ between machines, what counts: how many times as fast as the peer mrq was. Before that,
all answers are compared; a wrong one ends the run.

    python benchmarks/run.py [--rounds 3] [--mib 256] [--records 5000000] [--only wordcount,sort,grep,tiny]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERN = r"qz[a-z]* [a-z]*x"
CORES = len(os.sched_getaffinity(0))


@dataclass
class Program:
    """One contestant of one workload."""

    name: str
    command: list[str]
    answer: Callable[[], str]  #: a digest of its output, comparable between contestants
    times: list[float] = field(default_factory=list)


@dataclass
class Workload:
    name: str
    programs: list[Program]
    goals: dict[str, float]  #: at least so many times as fast as this peer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256, help="of text for word count and grep")
    parser.add_argument("--records", type=int, default=5_000_000, help="of 100 bytes to sort")
    parser.add_argument("--only", default="wordcount,sort,grep,tiny")
    parser.add_argument("--folder", default=os.path.join(tempfile.gettempdir(), "mrq-bench"))
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    words, records, tiny = make_data(args.folder, args.mib, args.records)
    print(f"{CORES} cores, Python {sys.version.split()[0]}, {args.rounds} rounds; data in {args.folder}\n")
    all_workloads = workloads(args.folder, words, records, tiny)
    met = True
    for name in args.only.split(","):
        met = run(all_workloads[name], args.rounds) and met
    print("every goal was met" if met else "NOT every goal was met")
    return 0 if met else 1


def make_data(folder: str, mib: int, records: int) -> tuple[str, str, str]:
    """Paths of the three inputs, made unless they are there."""
    words = os.path.join(folder, f"words-{mib}.txt")
    recs = os.path.join(folder, f"records-{records}")
    tiny = os.path.join(folder, "tiny.txt")
    for path, kind, amount in ((words, "words", mib), (recs, "records", records)):
        if not os.path.exists(path):
            subprocess.run([sys.executable, f"{HERE}/data.py", kind, str(amount), path], check=True)
    with open(tiny, "w", encoding="utf-8") as file:
        file.write("a tiny job\nis a job too\n" * 100)
    return words, recs, tiny


def workloads(folder: str, words: str, records: str, tiny: str) -> dict[str, Workload]:
    """Every workload with its contestants; mrq's comes first."""

    def out(name: str) -> str:
        return os.path.join(folder, f"out-{name}")

    def mrq(job: str, source: str, name: str, *flags: str) -> list[str]:
        return [
            sys.executable, "-m", "mrq.submit", f"{HERE}/jobs.py:{job}", source,
            "-o", out(name), "--overwrite", "-q", *flags,
        ]  # fmt: skip

    def spark(workload: str, source: str, name: str, *rest: str) -> list[str]:
        return [sys.executable, f"{HERE}/peers/spark.py", workload, source, out(name), str(CORES), *rest]

    def plain(workload: str, source: str, name: str, *rest: str) -> list[str]:
        return [sys.executable, f"{HERE}/peers/plain.py", workload, source, out(name), *rest]

    def shell(text: str) -> list[str]:
        return ["sh", "-c", text]

    def any_order(name: str) -> Callable[[], str]:
        return lambda: digest(f"cat {out(name)}/part-* | LC_ALL=C sort -S 30% | sha256sum")

    def in_order(name: str) -> Callable[[], str]:
        return lambda: digest(f"cat {out(name)}/part-* | sha256sum")

    return {
        "wordcount": Workload(
            "word count, record API",
            [
                Program("mrq, records", mrq("WordCount", words, "wc-mrq"), any_order("wc-mrq")),
                Program("mrq, blocks", mrq("WordCountBlocks", words, "wc-blk"), any_order("wc-blk")),
                Program("PySpark RDD", spark("wordcount", words, "wc-spark"), any_order("wc-spark")),
                Program(
                    "Polars",
                    [sys.executable, f"{HERE}/peers/polars_words.py", words, out("wc-pl"), str(CORES)],
                    any_order("wc-pl"),
                ),
                Program("plain Python", plain("wordcount", words, "wc-py"), any_order("wc-py")),
            ],
            {"PySpark RDD": 2.5},
        ),
        "sort": Workload(
            "sort of 100-byte records",
            [
                Program("mrq", mrq("Sort", records, "sort-mrq", "-R", "16"), in_order("sort-mrq")),
                Program("PySpark sortByKey", spark("sort", records, "sort-spark"), in_order("sort-spark")),
                Program(
                    "GNU sort",
                    shell(
                        f"mkdir -p {out('sort-gnu')} && LC_ALL=C sort --parallel={CORES} -S 2G "
                        f"{records} -o {out('sort-gnu')}/part-00000"
                    ),
                    in_order("sort-gnu"),
                ),
            ],
            {"PySpark sortByKey": 4.0},
        ),
        "grep": Workload(
            "grep of a regular expression",
            [
                Program(
                    "mrq",
                    mrq("Grep", words, "grep-mrq", "--set", f"pattern={PATTERN}"),
                    in_order("grep-mrq"),
                ),
                Program("PySpark", spark("grep", words, "grep-spark", PATTERN), in_order("grep-spark")),
                Program("plain Python", plain("grep", words, "grep-py", PATTERN), in_order("grep-py")),
                Program(
                    "GNU grep",
                    shell(
                        f"mkdir -p {out('grep-gnu')} && LC_ALL=C grep -E '{PATTERN}' {words} "
                        f"> {out('grep-gnu')}/part-00000"
                    ),
                    in_order("grep-gnu"),
                ),
            ],
            {"PySpark": 4.0},
        ),
        "tiny": Workload(
            "a tiny job from a cold start",
            [
                Program("mrq", mrq("WordCount", tiny, "tiny-mrq"), any_order("tiny-mrq")),
                Program("PySpark", spark("tiny", tiny, "tiny-spark"), any_order("tiny-spark")),
                Program("bare interpreter", [sys.executable, "-c", "pass"], any_order("tiny-mrq")),
            ],
            {},
        ),
    }


def digest(command: str) -> str:
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    return done.stdout.split()[0].decode()


def run(workload: Workload, rounds: int) -> bool:
    """Time the contestants in turn, compare their answers, print the table; whether goals were met."""
    for _ in range(rounds):
        for program in workload.programs:
            started = time.perf_counter()
            done = subprocess.run(program.command, stdin=subprocess.DEVNULL, capture_output=True)
            program.times.append(time.perf_counter() - started)
            if done.returncode:
                sys.exit(f"{program.name} failed:\n{done.stderr.decode()[-3000:]}")
    answers = {program.name: program.answer() for program in workload.programs}
    if len(set(answers.values())) > 1:
        sys.exit(f"{workload.name}: the answers differ: {answers}")
    ours = statistics.median(workload.programs[0].times)
    print(f"## {workload.name} (answers agree)\n")
    print(f"| program | median s | min | max | mrq is faster by |\n|{'---|' * 5}")
    for program in workload.programs:
        middle = statistics.median(program.times)
        ratios = statistics.median(
            t / m for t, m in zip(program.times, workload.programs[0].times, strict=True)
        )
        print(
            f"| {program.name} | {middle:.2f} | {min(program.times):.2f} | {max(program.times):.2f} "
            f"| {ratios:.2f}x |"
        )
    met = True
    for peer, goal in workload.goals.items():
        times = next(p.times for p in workload.programs if p.name == peer)
        ratio = statistics.median(t / m for t, m in zip(times, workload.programs[0].times, strict=True))
        met = met and ratio >= goal
        print(f"\ngoal: {goal}x {peer}: {'met' if ratio >= goal else 'MISSED'} ({ratio:.2f}x, {ours:.2f} s)")
    print(flush=True)
    return met


if __name__ == "__main__":
    sys.exit(main())
