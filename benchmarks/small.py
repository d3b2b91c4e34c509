"""What people wait for, again and again: `python benchmarks/small.py [--base PYTHON] [--rounds 5]`.

- testing: one call of `mrq.testing.run` over three lines, in one process, for a word count, a map-only job
  and a total order over two parts; the median of 40 calls after 5.
- retry: `mrq retry` of an embedded job of 400 maps that was killed with -9, engine and executors, when half
  of them were done; from the command's start to its end.
- tiny: `mrq submit` of a word count over three lines, from the command's start to its end.
- stage: what a stage more costs a job on an engine that is warm: a chain of five over three lines less one of
  a single stage, a quarter of that; the median of 9 runs of each.

`--base` is another interpreter, with another mrq installed: both are measured in turn, and the last column is
the ratio of the medians. Seconds differ between machines and minutes; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: What one interpreter does for `testing`: prints the median of a call in milliseconds, a line for each job.
_TESTING: Final = """
import statistics, time, mrq, mrq.testing

class WordCount(mrq.Job):
    def map(self, key, line):
        for word in line.split():
            yield word, 1
    reduce = mrq.sum

class MapOnly(mrq.Job):
    def map(self, key, line):
        yield line, 1

class TotalOrder(WordCount, order="total", reducers=2):
    pass

for job in (WordCount, MapOnly, TotalOrder):
    took = []
    for _ in range(45):
        began = time.perf_counter()
        list(mrq.testing.run(job(), records=["a b a", "c", "b"]))
        took.append(1000 * (time.perf_counter() - began))
    print(job.__name__, statistics.median(took[5:]))
"""
#: What one interpreter does for `stage`: prints milliseconds.
_STAGES: Final = """
import statistics, sys, time, mrq

class Chain(mrq.Job):
    n: int

    def stages(self):
        first = mrq.Stage(map=self.words, reduce=mrq.sum)
        return [first, *(mrq.Stage(map=self.same, reduce=mrq.sum) for _ in range(self.n - 1))]

    def words(self, key, line):
        for word in line.split():
            yield word, 1

    def same(self, word, count):
        yield word, count

def main():
    took = {1: [], 5: []}
    with mrq.local() as engine:
        for _ in range(10):
            for n in took:
                began = time.perf_counter()
                engine.run(Chain(n=n), [sys.argv[1]], sys.argv[2], overwrite=True)
                took[n].append(1000 * (time.perf_counter() - began))
    one, five = (statistics.median(took[n][1:]) for n in (1, 5))
    print((five - one) / 4)

if __name__ == "__main__":
    main()
"""
#: Kills the engine that it runs under at the line "kill", as long as the file is there.
_KILLED: Final = """
import os, signal
import mrq

class Killed(mrq.Job, max_losses=9):
    flag: str

    def map(self, key, line):
        if line == "kill" and os.path.exists(self.flag):
            os.unlink(self.flag)
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        yield line, 1

    reduce = mrq.sum
"""
_LINES: Final = 400


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", help="another interpreter, with another mrq")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pythons = [sys.executable, *([args.base] if args.base else [])]
    found: dict[str, list[list[float]]] = {}
    for _ in range(args.rounds):
        for at, python in enumerate(pythons):
            for name, took_ms in measured(python).items():
                found.setdefault(name, [[] for _ in pythons])[at].append(took_ms)
    for name, sides in found.items():
        sides = [side for side in sides if side]  # stages are newer than some mrq to compare with
        medians = [statistics.median(side) for side in sides]
        shown = "   ".join(f"{statistics.median(s):8.1f} ms ({min(s):.1f} to {max(s):.1f})" for s in sides)
        print(f"{name:<12}{shown}" + (f"   {medians[0] / medians[1]:.2f}" if len(sides) == 2 else ""))
    return 0


def measured(python: str) -> dict[str, float]:
    """All of it once, in milliseconds; a stage where that mrq has stages."""
    found = {**testing(python), "retry": retry(python), "tiny": tiny(python)}
    has = (
        subprocess.run([python, "-c", "import mrq; mrq.Stage"], capture_output=True, cwd="/").returncode == 0
    )
    return {**found, "stage": stage(python)} if has else found


def stage(python: str) -> float:
    """Milliseconds of a stage."""
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder, "stages.py"), Path(folder, "in.txt")
        script.write_text(_STAGES)
        data.write_text("a b\nc\nb\n")
        env = {**os.environ, "MRQ_TMP": folder}
        words = [python, str(script), str(data), f"{folder}/out"]
        return float(subprocess.run(words, check=True, capture_output=True, text=True, env=env).stdout)


def testing(python: str) -> dict[str, float]:
    """The median of a call of each job, milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "calls.py")
        script.write_text(_TESTING)
        said = subprocess.run([python, script], check=True, capture_output=True, text=True, cwd=folder).stdout
    return {f"testing {name}": float(took) for name, took in map(str.split, said.splitlines())}


def retry(python: str) -> float:
    """Milliseconds of a retry. Raises SystemExit where its result is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        job, flag, data = (Path(folder, name) for name in ("killed.py", "flag", "in.txt"))
        job.write_text(_KILLED)
        flag.touch()
        lines = [f"line-{i:04}" for i in range(_LINES)]
        lines[_LINES // 2] = "kill"
        data.write_text(
            "".join(f"{line:<9}\n".replace(" ", "_") for line in lines).replace("kill_____", "kill")
        )
        env = {**os.environ, "MRQ_TMP": folder}
        submit = ["submit", str(job), str(data), "-o", "out", "--set", f"flag={flag}", "--split-size", "10"]
        ended = _mrq(python, submit, folder, env)
        if ended.returncode != -signal.SIGKILL:
            raise SystemExit(f"the job wasn't killed: {ended.stderr}")
        listed = _mrq(python, ["retry"], folder, env).stdout
        kept = next(word for word in listed.split() if word.startswith("killed-"))
        began = time.perf_counter()
        ended = _mrq(python, ["retry", kept], folder, env)
        took = 1000 * (time.perf_counter() - began)
        parts = Path(folder, "out").glob("part-*")
        if ended.returncode or sum(len(p.read_text().splitlines()) for p in parts) != _LINES:
            raise SystemExit(f"the retry came out wrong: {ended.stderr}")
    return took


def tiny(python: str) -> float:
    """Milliseconds of a submit."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.py").write_text(_KILLED)
        Path(folder, "in.txt").write_text("a b\nc\nb\n")
        began = time.perf_counter()
        ended = _mrq(
            python, ["submit", "job.py", "in.txt", "-o", "out", "--set", "flag=none"], folder, os.environ
        )
        took = 1000 * (time.perf_counter() - began)
    if ended.returncode:
        raise SystemExit(f"the job failed: {ended.stderr}")
    return took


def _mrq(
    python: str, words: list[str], folder: str, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "mrq", *words], cwd=folder, env=dict(env), capture_output=True, text=True, timeout=120
    )


if __name__ == "__main__":
    sys.exit(main())
