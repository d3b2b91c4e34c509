"""Who owns a staging folder: the `job` file in it, and whether that owner still lives.

An embedded job lives as long as its process. A job of a cluster outlives any master: it lives as long as
the cluster says so, and whichever master leads may go on with it.

The folder appears with the file in it, by one rename. An owner that is dead, or has let go, is
succeeded by linking `took-DIGEST` (of the owner's file): one link can win, so two successors
can't both believe that they own the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from mrq.commit.filesystem import OCCUPIED, FileSystem
from mrq.errors import OutputError

JOB_FILE: Final = "job"
#: How the names of links begin by which dead owners were succeeded.
TOOK: Final = "took-"
#: More successors of dead owners in one folder than this is no honest history.
_SUCCESSORS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that this master is one of."""

    id: str  #: of its store
    goes_on: Callable[[str], bool]  #: is a job of that id known, and not over?
    #: The `JobSpec.claim` of a job that is known; "" of others.
    claim_of: Callable[[str], str] = lambda job: ""

    def made(self, owner: Owner) -> bool:
        """Is it a claim of this cluster's? By the id of its store, or, as a store may have lost its data and
        have got another id since, by what its record of the job says."""
        return owner.cluster == self.id or owner.is_of(self.claim_of(owner.job))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A job and the process that runs it."""

    job: str
    pid: int
    started: str  #: of the process, in the kernel's ticks since boot: a pid alone is used again
    host: str
    boot: str  #: id of the machine's boot
    namespace: str  #: of process ids: a container's pids mean nothing outside
    displaces: str | None  #: the earlier output, as found at submit
    nonce: str  #: no two claims have the same bytes: each has one successor at most
    made: tuple[str, ...] = ()  #: parents of OUT that had to be made, innermost first
    released: bool = False  #: nobody runs it: kept for `mrq retry`, or to be taken over
    cluster: str = ""  #: id of the cluster that runs it; "" is the process itself
    claim: str = ""  #: of the job's record, the same for all claims of one job; "": of an earlier mrq

    def dump(self) -> bytes:
        """As the bytes of the `job` file."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return (json.dumps(fields, indent=1) + "\n").encode("ascii")

    def is_of(self, claim: str) -> bool:
        """Is it the claim that a job's record holds?"""
        return bool(claim) and self.claim == claim

    def is_mine(self, cluster: Cluster | None, claim: str) -> bool:
        """Did this very process, or any master of this cluster, claim the folder and not let go? `claim` is
        what the job's record holds, which is believed whatever the ids of stores say."""
        if self.cluster:
            return not self.released and cluster is not None and (cluster.made(self) or self.is_of(claim))
        here = (os.getpid(), process_start(os.getpid()), *identity())
        return not self.released and here == (self.pid, self.started, self.host, self.boot, self.namespace)

    def alive(self, cluster: Cluster | None = None) -> bool | None:
        """Does the process run, or the job go on? None when that can't be known from here: another host,
        container or cluster."""
        if self.released:
            return False
        if self.cluster:
            return cluster.goes_on(self.job) if cluster is not None and cluster.made(self) else None
        host, boot, namespace = identity()
        if self.host != host:
            return None
        if self.boot != boot:
            return False
        if self.namespace != namespace:
            return None
        return process_start(self.pid) == self.started


def parse(data: bytes, folder: str) -> Owner:
    """The owner in a `job` file. Raises OutputError."""
    try:
        raw: Mapping[str, Any] = json.loads(data)
        return Owner(**{**raw, "made": tuple(raw["made"])})
    except (ValueError, TypeError, KeyError) as exc:
        raise OutputError(
            f"{folder} isn't a staging folder that this mrq made; look at it and move it away"
        ) from exc


def identity() -> tuple[str, str, str]:
    """Host, boot and pid namespace of this process."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return os.uname().nodename, _content("/proc/sys/kernel/random/boot_id"), namespace


def process_start(pid: int) -> str:
    """When a process started, "" when it doesn't run (a zombie doesn't)."""
    stat = _content(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def myself(
    job: str,
    displaces: str | None,
    made: tuple[str, ...] = (),
    cluster: Cluster | None = None,
    claim: str = "",
) -> Owner:
    """This process, or its cluster, as the owner of a job's staging folder."""
    pid = os.getpid()
    host, boot, namespace = identity()
    return Owner(
        job=job,
        pid=pid,
        started=process_start(pid),
        host=host,
        boot=boot,
        namespace=namespace,
        displaces=displaces,
        nonce=os.urandom(8).hex(),
        made=made,
        cluster=cluster.id if cluster is not None else "",
        claim=claim,
    )


def create(fs: FileSystem, folder: str, owner: Owner) -> bool:
    """Make the folder, owned; False when there is one already. Raises OSError."""
    fresh = _beside(folder, owner)
    fs.remove_tree(fresh)
    try:
        fs.mkdir(fresh)
        fs.write(f"{fresh}/{JOB_FILE}", owner.dump())
        fs.mkdir(f"{fresh}/attempts")
        fs.fsync_folder(fresh)
        fs.rename(fresh, folder)
    except OSError as exc:
        fs.remove_tree(fresh)
        if exc.errno in OCCUPIED:
            return False
        raise
    fs.fsync_folder(os.path.dirname(folder))
    return True


def sweep(fs: FileSystem, folder: str) -> None:
    """Remove what `create` left beside the folder when its process died. Raises OSError."""
    parent, name = os.path.split(folder)
    for found in fs.names(parent) or ():
        if not (found.startswith(f"{name}.") and found.endswith(".new")):
            continue
        words = found[len(name) + 1 : -4].split(".")
        if len(words) != 4:
            continue
        _, pid, started, machine = words
        # Another machine's are its own business.
        if machine == _machine() and pid.isdigit() and process_start(int(pid)) != started:
            fs.remove_tree(f"{parent}/{found}")


def _machine() -> str:
    """This boot of this machine and its process ids, in a word."""
    return f"{zlib.crc32(repr(identity()).encode()):08x}"


def holder(fs: FileSystem, folder: str) -> tuple[bytes, Owner] | None:
    """Whoever owns the folder now, with the bytes that say so; None when there is no such folder."""
    data = fs.read(f"{folder}/{JOB_FILE}")
    if data is None:
        return None
    for _ in range(_SUCCESSORS_MAX):
        successor = fs.read(f"{folder}/{_token(data)}")
        if successor is None:
            return data, parse(data, folder)
        data = successor
    raise OutputError(
        f"{folder} has been taken over {_SUCCESSORS_MAX} times: look at what runs there, and choose another "
        "output"
    )


def succeed(fs: FileSystem, folder: str, former: bytes, owner: Owner) -> bool:
    """Take the folder over from a dead owner; False when someone else was faster. Raises OSError."""
    fresh = _beside(folder, owner)
    fs.write(fresh, owner.dump())
    try:
        fs.link(fresh, f"{folder}/{_token(former)}")
    except (FileExistsError, FileNotFoundError):
        fs.unlink(fresh)
        return False
    fs.rename(fresh, f"{folder}/{JOB_FILE}")
    fs.fsync_folder(folder)
    return True


def release(fs: FileSystem, folder: str, owner: Owner) -> None:
    """Let go of the folder, so that a retry or another job may take it. Raises OSError."""
    fresh = _beside(folder, owner)
    try:
        fs.write(fresh, replace(owner, nonce=os.urandom(8).hex(), released=True).dump())
        fs.rename(fresh, f"{folder}/{JOB_FILE}")
    except OSError:  # a full disk: what there is says enough once this process is gone
        with suppress(OSError):
            fs.unlink(fresh)
        raise
    fs.fsync_folder(folder)


def remove(fs: FileSystem, folder: str) -> None:
    """Remove a staging folder that is the caller's; the owner's file goes last. Raises OSError."""
    for name in fs.names(folder) or ():
        if name != JOB_FILE:
            fs.remove_tree(f"{folder}/{name}")
    fs.remove_tree(f"{folder}/{JOB_FILE}")
    fs.rmdir_empty(folder)  # another job may have made it its own the moment that it was empty


def _beside(folder: str, owner: Owner) -> str:
    """Where something for the folder is made before it goes in; `sweep` knows whose it is."""
    return f"{folder}.{owner.job}.{owner.pid}.{owner.started}.{_machine()}.new"


def _token(data: bytes) -> str:
    return f"{TOOK}{hashlib.sha256(data).hexdigest()[:16]}"
