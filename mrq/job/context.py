"""What the engine gives an instance while it runs: `self.task` and `self.counters`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    import random

    from mrq.job.base import Job

#: The slot of the progress page (`mrq.worker.progress_page.TICKS`) that `progress` moves. Not imported: job
#: code doesn't know the worker; a unit test compares the two.
PAGE_TICKS = 5


class Task:
    """The attempt that is running this code. A job made by hand, in a test say, has a blank one."""

    __slots__ = ("_log", "_page", "_rng", "attempt", "id", "path", "seed")

    def __init__(
        self,
        *,
        id: str = "",
        attempt: int = 0,
        path: str = "",
        seed: int = 0,
        page: memoryview[int] | None = None,
    ) -> None:
        self.id = id  #: "m-00042" or "r-00003"
        self.attempt = attempt  #: 1 for the first claim of the task, then growing
        self.path = path  #: of the record at hand, as the user spelled it; "" in a reduce
        self.seed = seed  #: of the job
        self._page = page
        self._rng: random.Random | None = None
        self._log: logging.Logger | None = None

    @property
    def rng(self) -> random.Random:
        """Random numbers that are the same in every attempt of this task: seeded by job seed and task."""
        if self._rng is None:
            import random

            self._rng = random.Random(f"mrq:{self.seed}:{self.id}")
        return self._rng

    def progress(self) -> None:
        """Say "alive" from a record that takes long; any record, in or out, says so too."""
        if self._page is not None:
            self._page[PAGE_TICKS] += 1

    @property
    def log(self) -> logging.Logger:
        """A logger whose lines go into the attempt's log, from INFO up unless the job sets another level."""
        if self._log is None:
            import logging

            self._log = logging.getLogger("mrq.task")
            loggers = (self._log, logging.getLogger("mrq"), logging.getLogger())
            handlers = [each for logger in loggers for each in logger.handlers]
            # Else the user's code has configured logging, and that wins.
            if all(isinstance(each, logging.NullHandler) for each in handlers):
                # Resolves sys.stderr, which the executor captures, at every line: attempts have one each.
                handler = logging._StderrHandler()  # type: ignore[attr-defined]
                handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
                self._log.addHandler(handler)
                self._log.setLevel(logging.INFO)
                self._log.propagate = False
        return self._log

    def __repr__(self) -> str:
        return f"<Task {self.id or 'blank'} attempt {self.attempt}>"


def bind(job: Job, task: Task) -> None:
    """Give `job` a fresh attempt: its task, counters at nothing, and a built-in reduce its parameters."""
    job.task = task
    job.counters = Counter()
    reduce = getattr(type(job), "reduce", None)
    if getattr(reduce, "parameter", None) is not None:
        from mrq.job.builtins import BuiltIn

        if isinstance(reduce, BuiltIn):
            vars(job)["reduce"] = reduce.bound(vars(job))
