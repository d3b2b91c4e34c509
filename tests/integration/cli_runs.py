"""Runs of the command line in a process of its own, as a user's shell starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from folders import below

JOBS = {
    "wc.py": '''
import mrq

class WordCount(mrq.Job):
    """How often each word occurs."""
    least: int = 1

    def map(self, key, line):
        self.counters["lines"] += 1
        for word in line.split():
            yield word, 1

    def combine(self, word, counts):
        yield sum(counts)

    def reduce(self, word, counts):
        total = sum(counts)
        if total >= self.least:
            yield total
''',
    # Says in a file which process runs which task, then takes a while for every line.
    "slow.py": """
import os, time
import mrq

class Slow(mrq.Job):
    marks: str
    pause_s: float = 0.05
    reduce = mrq.sum

    def setup(self):
        with open(os.path.join(self.marks, f"{self.task.id}.{self.task.attempt}.{os.getpid()}"), "w"):
            pass

    def map(self, key, line):
        time.sleep(self.pause_s)
        for word in line.split():
            yield word, 1
""",
    "fails.py": """
import mrq

class Fails(mrq.Job):
    reduce = mrq.sum

    def map(self, key, line):
        print("looking at", line)
        yield int(line), 1
""",
}


@dataclass
class Ran:
    """A run that is over."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Runs:
    """A folder with jobs and inputs, and an MRQ_TMP of its own."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, text in JOBS.items():
            (self.folder / name).write_text(text)
        self.temp = self.folder / "temp"
        self.temp.mkdir()
        self.marks = self.folder / "marks"
        self.marks.mkdir()

    def environ(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MRQ_", "PYTEST", "PYTHONHASH"))}
        return {**kept, "MRQ_TMP": str(self.temp), **self.env, **more}

    def start(self, *argv: str, module: str = "mrq", env: dict[str, str] | None = None, **more: Any) -> Any:
        """Start `python -m mrq ARGV` in a process group of its own, with Ctrl-C not ignored."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *argv],
            cwd=self.folder,
            env=self.environ(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_default_signals,
            **{"stdin": subprocess.DEVNULL, **more},
        )

    def run(
        self,
        *argv: str,
        stdin: bytes | None = None,
        timeout_s: float = 60,
        env: dict[str, str] | None = None,
        module: str = "mrq",
    ) -> Ran:
        """Run it to its end."""
        given = {} if stdin is None else {"stdin": subprocess.PIPE}
        process = self.start(*argv, module=module, env=env, **given)
        return finish(process, stdin=stdin, timeout_s=timeout_s)

    def submit(self, *argv: str, **more: Any) -> Ran:
        return self.run("submit", *argv, **more)

    def write(self, name: str, data: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return name

    def result(self, out: str = "out") -> dict[str, bytes]:
        """The visible files of an output, parts and all, but for the manifest."""
        return {
            str(path.relative_to(self.folder / out)): path.read_bytes()
            for path in sorted((self.folder / out).rglob("*"))
            if path.is_file() and path.name != "_SUCCESS"
        }

    def temporary(self) -> list[str]:
        """Every file that lies under MRQ_TMP."""
        return [str(path.relative_to(self.temp)) for path in below(self.temp) if not path.is_dir()]

    def staged(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.name.endswith(".mrq")]

    def wait_for_marks(self, count: int, timeout_s: float = 30) -> list[str]:
        """Names of marks (TASK.ATTEMPT.PID), once there are that many."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = sorted(path.name for path in self.marks.iterdir())
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"only {found}"
            time.sleep(0.01)


def finish(process: Any, *, stdin: bytes | None = None, timeout_s: float = 60) -> Ran:
    """Wait for a run's end; one that hangs is killed, and the test fails with what it said."""
    try:
        out, err = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"hung: {out!r} {err.decode(errors='replace')}") from None
    return Ran(process.returncode, out, err.decode("utf-8", "replace"))


def _default_signals() -> None:
    """A suite that runs in the background of a script has Ctrl-C ignored, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in map(int, file.read().split()):
                    found |= {child} | descendants(child)
    return found


def gone(pids: set[int], within_s: float = 2.0) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + within_s
    while any(map(runs, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
