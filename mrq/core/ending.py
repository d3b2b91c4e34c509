"""How a job ended, as whoever waits for it is told: in the leader's process as it is, else as the last entry
of the job's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mrq.core import wire
from mrq.core.info import JobInfo
from mrq.core.job_summary import Summary
from mrq.core.model import JobSpec, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """One job's end."""

    job: str  #: the id that clients know
    state: JobState  #: DONE, FAILED or CANCELLED
    error: str | None = None  #: why it failed, a sentence
    error_type: str = ""  #: the class in `mrq.errors` to raise; "": the job failed by its own tasks
    info: JobInfo | None = None  #: as it was last
    summary: Summary | None = None  #: of a job that is done
    spec: JobSpec | None = None  #: of a job that is done, without its splits

    def entry(self) -> dict[str, Any]:
        """The entry in the job's events."""
        made: dict[str, Any] = {
            "type": "ended",
            "state": self.state.value,
            "error": self.error,
            "error_type": self.error_type,
        }
        for name in ("info", "summary", "spec"):
            if (value := getattr(self, name)) is not None:
                made[name] = wire.to_wire(value)
        return made

    @classmethod
    def of(cls, job: str, entry: Mapping[str, Any]) -> JobEnd:
        """What an entry says. Raises CorruptFileError for what no version has written."""
        info, summary, spec = (entry.get(name) for name in ("info", "summary", "spec"))
        return cls(
            job=job,
            state=JobState(entry["state"]),
            error=entry.get("error"),
            error_type=str(entry.get("error_type") or ""),
            info=wire.from_wire(JobInfo, info) if info is not None else None,
            summary=wire.from_wire(Summary, summary) if summary is not None else None,
            spec=wire.from_wire(JobSpec, spec) if spec is not None else None,
        )
