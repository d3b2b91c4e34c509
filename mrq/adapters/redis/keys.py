"""Every key's name. All keys of one job share the hash tag `{job}`; all names begin with the prefix."""

from __future__ import annotations

import re
from typing import Final

from mrq.errors import UsageError

_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class Keys:
    """The names under one prefix. Raises UsageError for a prefix that can't be one."""

    def __init__(self, prefix: str = "mrq") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(
                f"prefix {prefix!r} can't begin the names of keys: use at most 64 letters, digits and _ . : -"
            )
        self.prefix = prefix
        self.store = f"{prefix}:store"  #: hash: id, incarnation, ready
        self.fence = f"{prefix}:fence"  #: hash: the fence of what belongs to no job
        self.lease = f"{prefix}:leader"  #: hash: owner, epoch, until, for
        self.workers = f"{prefix}:workers"  #: hash: name -> row (scripts/lib.lua)
        self.beats = f"{prefix}:beats"  #: hash: name -> last beat
        self.about = f"{prefix}:about"  #: hash: name -> what it last said about itself
        self.orders = f"{prefix}:orders"  #: hash: name -> orders that weren't acknowledged
        self.events = f"{prefix}:events"  #: stream for the leader
        self.requests = f"{prefix}:requests"  #: stream of what clients ask
        self.jobs = f"{prefix}:jobs"  #: sorted set of jobs, by when they began (ms)
        self.gone = f"{prefix}:gone"  #: sorted set of forgotten jobs, by when they expire (ms)

    def reported(self, worker: str) -> str:
        """List: what a worker's boot reported and the leader may not have acted upon."""
        return f"{self.prefix}:reported:{worker}"

    def claims(self, job: str) -> str:
        """Hash: a job's state, fence, task rows and attempt rows (scripts/lib.lua)."""
        return f"{self.prefix}:{{{job}}}:claims"

    def records(self, job: str) -> str:
        """Hash: the leader's own record of each task."""
        return f"{self.prefix}:{{{job}}}:records"

    def locations(self, job: str) -> str:
        """Stream of map outputs."""
        return f"{self.prefix}:{{{job}}}:locations"

    def spec(self, job: str) -> str:
        """String: the job as submitted."""
        return f"{self.prefix}:{{{job}}}:spec"

    def news(self, job: str) -> str:
        """Stream for clients."""
        return f"{self.prefix}:{{{job}}}:news"

    def progress(self, job: str) -> str:
        """List: ids of the news that may be dropped."""
        return f"{self.prefix}:{{{job}}}:progress"

    def logs(self, job: str) -> str:
        """Hash: an attempt's name -> digest of its log."""
        return f"{self.prefix}:{{{job}}}:logs"

    def of_job(self, job: str) -> tuple[str, ...]:
        """All keys of a job, in the order in which scripts take them."""
        return (
            self.claims(job),
            self.records(job),
            self.locations(job),
            self.spec(job),
            self.news(job),
            self.progress(job),
            self.logs(job),
        )

    def blob(self, digest: str) -> str:
        """Hash: chunk number -> bytes, and the size once all are there."""
        return f"{self.prefix}:blob:{digest}"

    def code_users(self, digest: str) -> str:
        """Set of jobs that run on a bundle."""
        return f"{self.prefix}:users:{digest}"

    def asked(self, request: str) -> str:
        """String: where a request is in the stream."""
        return f"{self.prefix}:asked:{request}"

    def answer(self, request: str) -> str:
        """Stream of one entry: the answer to a request."""
        return f"{self.prefix}:answer:{request}"
