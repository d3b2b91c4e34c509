"""Every bound of the leader's machine, in one frozen value."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from mrq.core.backoff import Backoff

#: Not at once, as what an attempt met may last.
_BACKOFF: Final = Backoff(base_s=0.5, max_s=30.0, least=0.5)
#: Of a worker at whose address nobody answers.
_DIAL_AGAIN: Final = Backoff(base_s=1.0, max_s=30.0, least=0.5)


class ReduceStart(enum.Enum):
    """When a job's reduces may be handed out."""

    AFTER_MAPS = "after_maps"  # once every map is completed: where they are read on the maps' own machine
    FIRST_MAPS = "first_maps"  # from the first completed map on, waiting for the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """Times in seconds. The defaults are those of a cluster; `for_one_worker()` gives the other set."""

    quarantines: bool = True  #: False: the only worker is the leader's own, and always takes tasks
    reduce_start: ReduceStart = ReduceStart.FIRST_MAPS
    # Workers.
    suspect_after_s: float = 5.0
    dead_after_s: float = 15.0
    late_tick_s: float = 3.0  #: a tick that comes this much too late was our own outage: full grace
    missing_beats: int = 2  #: beats begun after a claim that don't list it: the attempt is over
    version: str = ""  #: a worker that says it has another one (major or minor) is sent away; "": any
    dial_again: Backoff = _DIAL_AGAIN
    dial_timeout_s: float = 30.0  #: without a verdict for so long: asked for again
    forget_worker_s: float = 3600.0  #: a dead worker is dropped after it …
    list_dead_s: float = 60.0  #: … and listed for so long after its last beat, unless it is in quarantine
    quarantine_tasks: int = 5  #: different tasks failed on one worker within strike_s
    quarantine_share: float = 0.5  #: of the workers at most; a job's bug isn't theirs
    strike_s: float = 3600.0
    # What is handed out: published and not yet claimed, per kind.
    window_min: int = 8
    window_max: int = 4096
    round_trip_s: float = 0.25
    message_tasks_max: int = 64  #: short tasks of a job that one message names …
    message_s: float = 0.05  #: … and what they take one after another, by those of their kind that are done
    republish_after_s: float = 10.0  #: queued, unclaimed, with free slots
    republish_max: int = 3  #: then it gets a new ticket
    message_deaths_max: int = 10
    waiting_reduces_share: float = 0.5  #: of the reduce slots, for reduces that wait for maps
    stall_after_s: float = 3.0  #: maps without a slot for so long take one from a waiting reduce
    offer_timeout_s: float = 10.0
    disks_look_s: float = 10.0  #: while workers are full; after 5 looks without anything going on a job fails
    fit_after_s: float = 0.5  #: after workers came or went, who may run what is queued is looked at
    # Retries.
    backoff: Backoff = _BACKOFF
    uncharged_max: int = 50  #: attempts of one task that ended for nobody's fault: something is wrong
    disk_full_max: int = 3  #: in a row without progress, when no other worker is left
    disk_full_limit: int = 10  #: in all, of one task
    # The shuffle.
    unreachable_reducers: int = 3  #: distinct ones (or half of them) before a map is run again
    map_reruns_max: int = 4  #: of one map, for failed fetches
    rollbacks_max: int = 4  #: of a job's reduces, for maps that came out differently
    parts_lost_max: int = 4  #: so often a job begins again for parts between its stages that were lost
    # Backup attempts.
    backup_stage_done: float = 0.75  #: of the stage's tasks
    backup_slowness: float = 2.0  #: times the median
    backup_min_s: float = 5.0
    backup_share: float = 0.1  #: of the running tasks; at least one
    backup_same_worker: bool = False
    straggler_check_s: float = 1.0
    errors_kept: int = 20  #: a job's latest, for people
    # Tasks that were lost with workers; the bound of all such losses is `JobSpec.max_worker_losses`.
    alone_after: int = 2  #: so many boots: from then on the task runs alone on its worker
    alone_losses_max: int = 3  #: lost so often while it ran alone: poison
    storm_s: float = 20.0  #: … unless another boot was lost in so long before, for reasons of its own
    alone_share: float = 0.5  #: of the workers at most run one task alone; but one always may

    @classmethod
    def for_one_worker(cls) -> MachineConfig:
        """One worker beside its leader: reduces after maps, and a backup may run beside its primary.

        A backup on the same machine helps against an executor that hangs or was swapped out.
        """
        return cls(
            quarantines=False,
            reduce_start=ReduceStart.AFTER_MAPS,
            backup_same_worker=True,
            backoff=Backoff(base_s=0.1, max_s=5.0, least=0.5),
        )
