"""Tells whoever waits for a job why it doesn't go on: what no worker runs, and which workers lack disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mrq.core.info import JobInfo
from mrq.core.model import JobSpec, Status
from mrq.master.views import Views


@dataclass(eq=False)
class Waits:
    """What was said last of each job, so that only what changes is said; `note` tells a job's clients a
    sentence."""

    views: Views
    spec_of: Callable[[str], JobSpec | None]
    note: Callable[[str, str], None]
    _said: dict[str, str] = field(default_factory=dict, init=False)
    #: By job, the workers whose lack of disk was told.
    _lacking: dict[str, set[str]] = field(default_factory=dict, init=False)

    def look(self) -> None:
        """Tell what has changed since the last look."""
        said: dict[str, str] = {}
        lacking: dict[str, set[str]] = {}
        for name, info in self.views.under_way():
            job, spec = info.job, self.spec_of(name)
            if spec is None:
                continue
            reason = self.views.waits_for(spec, info)
            if reason:
                said[job] = reason
                if self._said.get(job) != reason:
                    self.note(job, reason)
            told = lacking[job] = self._lacking.get(job, set())
            for worker, text in short_of_disk(info).items():
                if worker not in told:
                    told.add(worker)
                    self.note(job, text)
        self._said, self._lacking = said, lacking


def short_of_disk(info: JobInfo) -> dict[str, str]:
    """Of each worker on which a task found no room: a sentence with what it had and what was needed."""
    found: dict[str, str] = {}
    for told in info.errors:
        if told.status is Status.DISK_FULL and told.error is not None:
            found[told.worker] = (
                f"worker {told.worker} has too little disk for {told.task}: {told.error.message}"
            )
    return found
