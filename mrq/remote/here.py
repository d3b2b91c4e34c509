"""What the cluster says of its own paths, as this machine has them: the way back through `[paths]`.

Only mrq's own sentences are changed. What user code says, or raises, is the user's: it saw paths as they were
spelled, and any other that it names is one of the worker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mrq.core.model import ErrorReport
from mrq.core.pathmap import PathMap
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

    def answer(self, op: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The leader's answer: rows for people."""
        if op in ("jobs", "workers"):
            return {**answer, op: [self._row(row) for row in answer[op]]}
        return self._row(answer) if op == "status" else answer

    def _row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A `core.rows.JobRow`, `StatusRow` or `WorkerRow`."""
        made = dict(row)
        if row.get("error"):
            made["error"] = self.error(row["error"])
        if row.get("notes"):
            made["notes"] = [self.text(note) for note in row["notes"]]
        if row.get("errors"):
            made["errors"] = [
                {**each, "message": self.text(each["message"])} if each["type"] in _OURS else each
                for each in row["errors"]
            ]
        return made
