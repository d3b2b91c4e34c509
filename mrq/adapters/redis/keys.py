"""Every key's name. All keys of one job share the hash tag `{job}`; all names begin with the prefix."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from mrq.errors import UsageError

_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


def _of_job(name: str) -> Callable[[RedisKeys, str], str]:
    """The method that gives a job's key of that name."""
    return lambda keys, job: f"{keys.prefix}:{{{job}}}:{name}"


def _of(name: str) -> Callable[[RedisKeys, str], str]:
    """The method that gives the key of that name for a worker, a digest or a request."""
    return lambda keys, what: f"{keys.prefix}:{name}:{what}"


class RedisKeys:
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
        self.addresses = f"{prefix}:addresses"  #: hash: name -> its boot and where that listens
        self.about = f"{prefix}:about"  #: hash: name -> what it last said about itself
        self.orders = f"{prefix}:orders"  #: hash: name -> orders that weren't acknowledged
        self.events = f"{prefix}:events"  #: stream for the leader
        self.requests = f"{prefix}:requests"  #: stream of what clients ask
        self.jobs = f"{prefix}:jobs"  #: sorted set of jobs, by when they began (ms)
        self.gone = f"{prefix}:gone"  #: sorted set of forgotten jobs, by when they expire (ms)

    reported = _of("reported")  #: list: what a worker's boot reported and the leader may not have acted upon
    blob = _of("blob")  #: hash of a digest: chunk number -> bytes, and the size once all are there
    code_users = _of("users")  #: set: jobs that run on a bundle, by its digest
    asked = _of("asked")  #: string: where a request is in the stream
    answer = _of("answer")  #: stream of one entry: the answer to a request

    claims = _of_job("claims")  #: hash: a job's state, fence, task rows and attempt rows (scripts/lib.lua)
    records = _of_job("records")  #: hash: the leader's own record of each task
    locations = _of_job("locations")  #: stream of map outputs
    spec = _of_job("spec")  #: string: the job as submitted
    news = _of_job("news")  #: stream for clients
    progress = _of_job("progress")  #: list: ids of the news that may be dropped
    logs = _of_job("logs")  #: hash: an attempt's name -> digest of its log

    def of_job(self, job: str) -> tuple[str, ...]:
        """All keys of a job, in the order in which scripts take them."""
        of_it = (self.claims, self.records, self.locations, self.spec, self.news, self.progress, self.logs)
        return tuple(key(job) for key in of_it)
