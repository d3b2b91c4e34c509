"""What the cluster says of its own paths, as this machine has them: the way back through `[paths]`.

Only mrq's own sentences are changed. What user code says, or raises, is the user's: it saw paths as they were
spelled, and any other that it names is one of the worker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mrq.core.info import JobInfo
from mrq.core.model import ErrorReport
from mrq.core.pathmap import PathMap
from mrq.core.worker_info import WorkerInfo
from mrq.errors import DiskFullError, InputError, OperatorError, OutputError

#: Errors of mrq's that an attempt may end with and that name paths.
_OURS: Final = frozenset(each.__name__ for each in (DiskFullError, InputError, OperatorError, OutputError))
#: As the end of a job tells one: `r-00000 failed 4 times, last on w1: OutputError: …`.
_TOLD: Final = re.compile(rf"\b(?:{'|'.join(sorted(_OURS))}): ")


class Here:
    """For the clients of one profile."""

    def __init__(self, paths: PathMap) -> None:
        self._paths = paths

    def text(self, text: str) -> str:
        """A sentence of mrq's."""
        return self._paths.in_text(text)

    def error(self, text: str) -> str:
        """Why a job failed."""
        return self.text(text) if _TOLD.search(text) else text

    def report(self, report: ErrorReport) -> ErrorReport:
        """Why an attempt failed."""
        return replace(report, message=self.text(report.message)) if report.type in _OURS else report

    def answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The leader's answer to a question."""
        made = dict(answer)
        if "jobs" in made:
            made["jobs"] = [self.job(each) for each in made["jobs"]]
        if "workers" in made:
            made["workers"] = [self.worker(each) for each in made["workers"]]
        return made

    def job(self, info: JobInfo) -> JobInfo:
        """A job as the leader has it."""
        return replace(
            info,
            error=self.error(info.error) if info.error else info.error,
            notes=tuple(map(self.text, info.notes)),
            errors=tuple(
                replace(each, error=self.report(each.error)) if each.error is not None else each
                for each in info.errors
            ),
        )

    def worker(self, info: WorkerInfo) -> WorkerInfo:
        """A worker as the leader has it."""
        return replace(info, notes=tuple(map(self.text, info.notes)))
