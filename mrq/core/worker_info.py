"""What people are shown of workers, of what those serve, and of logs; as `core.info` of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mrq.core.info import AttemptInfo, Info
from mrq.core.model import WorkerHealth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class OutputInfo(Info):
    """The output of a map, which its worker serves to reduces."""

    job: str = ""  #: the job's id
    task: str = ""  #: `m-00042`
    bytes: int = 0  #: its size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class WorkerInfo(Info):
    """A worker, as the leader sees it."""

    worker: str = ""  #: its id
    boot: str = ""  #: of this start of it
    address: str = ""  #: where others read its map outputs; empty: nowhere
    #: `joining`, `alive`, `suspect`, `dead`, `draining` or `quarantined`.
    health: WorkerHealth = WorkerHealth.JOINING
    since: float = 0.0  #: it has this health; 0: not known
    reason: str = ""  #: why, where it isn't simply taking tasks
    ends: str = ""  #: how that ends
    beat_at: float = 0.0  #: its last beat came
    silent_s: float = 0.0  #: that was ago
    beating: bool = False  #: its beats come
    map_slots: int = 0  #: maps that it takes at once
    reduce_slots: int = 0  #: reduces that it takes at once
    total_slots: int = 0  #: tasks that it takes at once, of both kinds together
    map_used: int = 0  #: of the slots
    reduce_used: int = 0  #: of the slots
    #: `cpus`, `memory_bytes`, `disk_bytes`, as far as it has said so.
    hints: Mapping[str, int] = field(default_factory=dict)
    strikes: int = 0  #: different tasks that failed here lately and were completed elsewhere
    trouble: str = ""  #: why it gets no tasks though it beats, as `nobody answers at …`
    full: str = ""  #: why it takes no maps, as `disk quota reached: …`
    version: str = ""  #: of mrq there
    python: str = ""  #: version
    packages: Mapping[str, str] | None = None  #: distribution to version; null: it hasn't said
    disk_used: int = 0  #: bytes of its files under its root
    disk_quota: int = 0  #: bytes that those may have; 0: the disk
    disk_free: int = 0  #: bytes, on the disk of its root
    debug: str = ""  #: what its MRQ_DEBUG does; empty where none is set
    notes: tuple[str, ...] = ()  #: what else is amiss there, in sentences, as a broker that blocks
    completed: int = 0  #: tasks, since the leader knows this boot
    leader: str = ""  #: that it follows: the master's id and the epoch
    attempts: tuple[AttemptInfo, ...] = ()  #: that live there
    outputs: tuple[OutputInfo, ...] = ()  #: that reduces still need, the 20 largest
    outputs_count: int = 0  #: of all of them
    outputs_bytes: int = 0  #: of all of them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LogInfo(Info):
    """What user code printed in one attempt."""

    task: str = ""  #: `m-00042`, `r-00003`
    ticket: int = 0  #: as of an attempt
    number: int = 0  #: as of an attempt
    token: str = ""  #: as of an attempt
    worker: str = ""  #: its worker's id
    status: str = ""  #: `running`, `done`, or as of an error
    tail: str = ""  #: its end, as it came with a report
    blob: str | None = None  #: digest of the whole, where that was put away
    missing: str = ""  #: why there is no more than the tail, as `worker w3 is gone`
    text: str = ""  #: the whole, or as much as there is of it
    whole: bool = False  #: whether `text` is all of it
