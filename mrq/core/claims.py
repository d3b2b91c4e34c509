"""The store's scripts as plain code: claim, report, beat, and the leader's fenced batch.

`servers.memory.store` is a lock around this; the scripts of a server are tested against it, difference by
difference, so its data is plain: dicts, lists, strings and numbers under string keys. Every script is
idempotent: answers get lost, so whoever asked asks again.

A *task* row is the leader's: [primary ticket, backup ticket], with 0 where there is none, as of a task that
is idle or completed. An *attempt* row is a claim's, one for each role of a task: [ticket, number, worker,
boot, token, floor, status or ""]. It is live while its ticket is the task's for that role, nothing was
reported and the job isn't over; nobody writes the other's rows.

The store numbers the claims of a task beside the ticket, which more than one may have held: a worker dies,
its message comes again, another is granted the same ticket. To the leader the two claims may come in either
order, since it also reads what is recorded; the number says which is the later one.

`floor` is the highest beat of the holder that may have begun before the claim was recorded: a beat
above it that doesn't list the token was made without it.

What belongs to no job (workers' health, orders that follow from no task) has a fence of its own: that of
the batches with the job "".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mrq.core.commands import GiveOrder, WriteJob, WriteLocation, WriteTask, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import (
    Beat,
    JobSpec,
    JobState,
    MapLocation,
    Quarantine,
    RunningAttempt,
    WorkerHealth,
)
from mrq.core.orders import Drain, Numbered
from mrq.core.refs import AttemptRef
from mrq.core.store_api import (
    Answer,
    Batch,
    BeatReply,
    ClaimAnswer,
    ClaimRequest,
    Fence,
    ReportAnswer,
    StoredJob,
    StoredWorker,
    Write,
    WriteAnswer,
)
from mrq.core.store_rows import (
    A_BOOT,
    A_FLOOR,
    A_STATUS,
    A_TICKET,
    A_TOKEN,
    A_WORKER,
    attempt_key,
    attempt_of,
    claimed,
    fence_row,
    granted,
    is_current,
    location,
    new_job,
    role_with,
    task_key,
)

__all__ = ["MISSING_BEATS", "Claims", "attempt_key", "task_key"]

#: Beats above the floor without a token that mean that its attempt is lost.
MISSING_BEATS: Final = 2

_OVER: Final = frozenset(
    {
        JobState.COMMITTING.value,
        JobState.DONE.value,
        JobState.FAILED.value,
        JobState.CANCELLED.value,
    }
)
_TAKES: Final = frozenset({WorkerHealth.ALIVE.value, WorkerHealth.SUSPECT.value})

_OBSOLETE: Final = ClaimAnswer(answer=Answer.OBSOLETE)
_NO_STORE: Final = ClaimAnswer(answer=Answer.NO_STORE)
_DECLINED: Final = ClaimAnswer(answer=Answer.DECLINED)
_DUPLICATE: Final = ClaimAnswer(answer=Answer.DUPLICATE)


class Claims:
    """The whole state of a store, and the scripts on it."""

    def __init__(self, *, store_id: str, incarnation: int = 1, ready: bool = True) -> None:
        self.store_id = store_id
        self.incarnation = incarnation
        self.ready = ready
        #: job -> {"state", "fence": [incarnation, epoch, owner, seq], "tasks", "attempts", "numbers",
        #: "locations", "reports", "records", "job_record"}; the last two are the leader's, and opaque.
        self.jobs: dict[str, dict[str, Any]] = {}
        self.cluster: dict[str, Any] | None = None  #: only a "fence": of what belongs to no job
        #: worker -> {"boot", "old", "seq", "tokens", "health", "draining", "orders", "order", "reported",
        #: "beat": the last one, "about": the last that wasn't empty}
        self.workers: dict[str, dict[str, Any]] = {}

    def open(self, incarnation: int) -> None:
        """A leader has loaded or restored everything: from now on there are answers."""
        self.incarnation = max(self.incarnation, incarnation)
        self.ready = True

    # The leader's scripts.

    def begin(self, job: str, fence: Fence) -> WriteAnswer:
        """Make a job's records, or take over the fence of one that is there."""
        if not self.ready:
            return WriteAnswer.NO_STORE
        found = self.jobs.get(job)
        if found is None:
            self.jobs[job] = new_job(fence)
            return WriteAnswer.WRITTEN
        return _take_fence(found, fence)

    def lead(self, fence: Fence) -> WriteAnswer:
        """Take the fence of what belongs to no job. A store that isn't open yet has one as well."""
        if self.cluster is None:
            self.cluster = {"fence": fence_row(fence)}
            return WriteAnswer.WRITTEN
        return _take_fence(self.cluster, fence)

    def restore(self, stored: StoredJob) -> WriteAnswer:
        """Write a job whole, in place of what is there, into a store that lost it or is behind: `writes`
        give tasks and locations. Claims and reports are gone, so its leader has ended the tickets."""
        name, fence = stored.spec.job, stored.fence
        found = self.jobs.get(name)
        if found is not None:
            if found["fence"][:3] == fence_row(fence)[:3]:
                return WriteAnswer.ALREADY
            if (fence.incarnation, fence.epoch) <= tuple(found["fence"][:2]):
                return WriteAnswer.FENCED
        job = self.jobs[name] = new_job(fence)
        for write in stored.writes:
            self._apply(job, write)
        job["state"], job["error"] = stored.state.value, stored.error
        job["records"], job["job_record"] = dict(stored.records), stored.job_record
        return WriteAnswer.WRITTEN

    def write(self, batch: Batch) -> WriteAnswer:
        """Move the fence from seq-1 to seq and apply the batch, or change nothing."""
        if not self.ready:
            return WriteAnswer.NO_STORE
        job = self.jobs.get(batch.job) if batch.job else self.cluster
        fence = batch.fence
        if job is None:
            return WriteAnswer.ROLLED_BACK
        incarnation, epoch, owner, seq = job["fence"]
        if (fence.incarnation, fence.epoch) < (incarnation, epoch):
            return WriteAnswer.FENCED
        if (fence.incarnation, fence.epoch) > (incarnation, epoch):
            return WriteAnswer.ROLLED_BACK  # that fence was taken here once, and is gone
        if fence.owner != owner:
            return WriteAnswer.FENCED
        if fence.seq <= seq:
            return WriteAnswer.ALREADY
        if fence.seq > seq + 1:
            return WriteAnswer.ROLLED_BACK
        job["fence"] = [incarnation, epoch, owner, fence.seq]
        for write in batch.writes:
            self._apply(job, write)
        if batch.records:
            job["records"].update(batch.records)
        if batch.job_record is not None:
            job["job_record"] = batch.job_record
        for given in batch.orders:
            self._order(given)
        return WriteAnswer.WRITTEN

    def fence(self, job: str) -> Fence | None:
        """The fence as it stands; of the job "", that of what belongs to no job."""
        found = self.jobs.get(job) if job else self.cluster
        if found is None:
            return None
        incarnation, epoch, owner, seq = found["fence"]
        return Fence(incarnation=incarnation, epoch=epoch, owner=owner, seq=seq)

    def forget(self, job: str) -> None:
        """Drop a job's records."""
        self.jobs.pop(job, None)

    def recorded(self, job: str) -> list[AttemptClaimed | AttemptReported]:
        """What is claimed and reported of tasks that aren't completed: what a sweep or a successor
        replays, since a wake-up may have been lost."""
        found = self.jobs.get(job)
        events: list[AttemptClaimed | AttemptReported] = []
        if found is None or found["state"] in _OVER:
            return events
        for key, row in found["attempts"].items():
            if not is_current(found["tasks"].get(key[:-1]), key, row):
                continue
            events.append(claimed(job, key, row))
            if row[A_STATUS]:
                events.append(found["reports"][key])
        return events

    def load(self, spec: JobSpec) -> StoredJob | None:
        """A job as a new leader goes on with it; None when there is no such job."""
        found, fence = self.jobs.get(spec.job), self.fence(spec.job)
        if found is None or fence is None:
            return None
        return StoredJob(
            spec=spec,
            fence=fence,
            state=JobState(found["state"]),
            error=found["error"],
            job_record=found["job_record"],
            records=dict(found["records"]),
            recorded=tuple(self.recorded(spec.job)),
        )

    def _apply(self, job: dict[str, Any], write: Write) -> None:
        match write:
            case WriteTask():
                job["tasks"][task_key(write.task)] = [write.primary, write.backup]
            case WriteLocation():
                at = write.location
                entry = [at.attempt.task.stage, at.attempt.task.index, *at.attempt[1:]]
                job["locations"].append([*entry, at.worker, at.boot, at.digest, at.bytes, write.withdrawn])
            case WriteJob():
                job["state"], job["error"] = write.state.value, write.error
            case WriteWorker():
                worker = self.workers.get(write.worker)
                if worker is not None and worker["boot"] == write.boot:
                    word = write.quarantine or Quarantine()
                    worker["health"], worker["word"] = write.health.value, [word.why, word.at]

    def _order(self, given: GiveOrder) -> None:
        """Number an order and keep it until a beat acknowledges it; an older boot's are of no use."""
        worker = self.workers.get(given.worker)
        if worker is None or worker["boot"] != given.boot:
            return
        worker["order"] += 1
        worker["orders"].append(Numbered(number=worker["order"], order=given.order))

    # The workers' scripts.

    def claim(self, request: ClaimRequest) -> tuple[ClaimAnswer, AttemptClaimed | None]:
        """The claim table (docs/architecture.md); the event is for the leader, once for each NEW."""
        if not self.ready:
            return _NO_STORE, None
        message = request.message
        job = self.jobs.get(message.task.job)
        if job is None or job["state"] in _OVER:
            return _OBSOLETE, None
        role = role_with(job["tasks"].get(task_key(message.task)), message.ticket)
        if role is None:
            return _OBSOLETE, None
        key = attempt_key(message.task, role)
        row = job["attempts"].get(key)
        if row is None or row[A_TICKET] != message.ticket:
            return self._grant(job, key, request)
        if row[A_STATUS]:
            return _OBSOLETE, None
        holder = attempt_of(message.task, row)
        if row[A_TOKEN] == request.token:
            return ClaimAnswer(answer=Answer.SAME, attempt=holder), None
        if (row[A_WORKER], row[A_BOOT]) == (request.worker, request.boot):
            return ClaimAnswer(answer=Answer.RESUME, attempt=holder), None
        return self._contend(job, key, request, holder)

    def _contend(
        self, job: dict[str, Any], key: str, request: ClaimRequest, holder: AttemptRef
    ) -> tuple[ClaimAnswer, AttemptClaimed | None]:
        """The message was delivered again, or a copy of it, while another boot holds the ticket: is that one
        alive?"""
        row = job["attempts"][key]
        worker = self.workers.get(row[A_WORKER])
        if worker is None or worker["boot"] != row[A_BOOT]:
            return self._grant(job, key, request)  # a newer boot of that worker: the old one's work is gone
        seq, listed = worker["seq"], row[A_TOKEN] in worker["tokens"]
        if not listed and seq >= row[A_FLOOR] + MISSING_BEATS:
            return self._grant(job, key, request)
        if request.held_token == holder.token and request.held_beat_seq is not None:
            if seq <= request.held_beat_seq:
                return self._grant(job, key, request)  # no newer beat
            if listed:
                return _DUPLICATE, None  # it lives on its beats
        return ClaimAnswer(answer=Answer.HELD, attempt=holder, beat_seq=seq), None

    def _grant(
        self, job: dict[str, Any], attempt: str, request: ClaimRequest
    ) -> tuple[ClaimAnswer, AttemptClaimed | None]:
        message = request.message
        worker = self.workers.get(request.worker)
        # The first beat of a boot comes before its first claim, so the leader learns of boots in order.
        if worker is None or worker["boot"] != request.boot or request.worker == message.not_worker:
            return _DECLINED, None
        if worker["draining"] or worker["health"] not in _TAKES or not request.fits:
            return _DECLINED, None
        key = task_key(message.task)
        number = job["numbers"][key] = job["numbers"].get(key, 0) + 1
        # One beat may be under way, made before this claim: the floor is above the last one seen.
        row = granted(request, number, worker["seq"] + 1)
        job["attempts"][attempt] = row
        event = claimed(message.task.job, attempt, row)
        return ClaimAnswer(answer=Answer.NEW, attempt=event.attempt), event

    def report(self, report: AttemptReported) -> tuple[ReportAnswer, AttemptReported | None]:
        """Record an outcome if its attempt is live; the event is for the leader, which is told again
        with the beats of that worker until it has written what follows."""
        if not self.ready:
            return ReportAnswer.NO_STORE, None
        task, token = report.attempt.task, report.attempt.token
        job = self.jobs.get(task.job)
        if job is None:
            return ReportAnswer.OBSOLETE, None
        found = _claim_with(job, report.attempt)
        if found is None:
            return ReportAnswer.OBSOLETE, None
        key, row = found
        if row[A_STATUS]:
            return ReportAnswer.ALREADY, None
        row[A_STATUS] = report.outcome.status.value
        job["reports"][key] = report
        worker = self.workers.get(report.worker)
        if worker is not None and worker["boot"] == report.boot:
            worker["reported"].append([task.job, key, token])
        return ReportAnswer.RECORDED, report

    def beat(self, beat: Beat) -> tuple[BeatReply | None, list[AttemptReported | BeatReceived]]:
        """Renew the lease of everything listed. None when the store isn't ready.

        The events reach the leader together or not at all: a report that was recorded comes before the
        beat that doesn't list its attempt any more, or the leader would take it for lost.

        A boot with an address is JOINING, which is declined every claim, until the leader says otherwise. The
        leader is told with each beat what health the store has: what it wrote may have come before the boot.

        A beat that was overtaken changes nothing; a boot that was followed by a newer one is told that
        it is dead, that nothing of it lives, and to leave.
        """
        if not self.ready:
            return None, []
        worker = self.workers.get(beat.worker)
        if worker is not None and beat.boot in worker["old"]:
            leave = Numbered(number=beat.acked_order + 1, order=Drain())
            return self._reply((leave,), WorkerHealth.DEAD, frozenset()), []
        if worker is None or worker["boot"] != beat.boot:
            worker = self._boot(beat, worker)
        events: list[AttemptReported | BeatReceived] = []
        if beat.seq > worker["seq"]:
            worker["seq"] = beat.seq
            worker["tokens"] = [line.attempt.token for line in beat.running]
            worker["draining"] = beat.draining
            acked = beat.acked_order
            worker["orders"] = [order for order in worker["orders"] if order.number > acked]
            worker["order"] = max(worker["order"], acked)  # of a store that lost some: numbers only grow
            worker["beat"], worker["about"] = beat, dict(beat.about) or worker["about"]
            events += self._unheard(worker)
            word = _quarantine(worker)
            events.append(BeatReceived(beat=beat, health=WorkerHealth(worker["health"]), quarantine=word))
        live = frozenset(line.attempt.token for line in beat.running if self._lives(line))
        return self._reply(tuple(worker["orders"]), WorkerHealth(worker["health"]), live), events

    def _unheard(self, worker: dict[str, Any]) -> list[AttemptReported]:
        """Reports of a worker from which nothing was written yet; the others needn't be told again."""
        kept, events = [], []
        for name, key, token in worker["reported"]:
            job = self.jobs.get(name)
            row = job["attempts"].get(key) if job is not None else None
            if job is None or row is None or row[A_TOKEN] != token or job["state"] in _OVER:
                continue
            if is_current(job["tasks"].get(key[:-1]), key, row):
                kept.append([name, key, token])
                events.append(job["reports"][key])
        worker["reported"] = kept
        return events

    def leave(self, worker: str, boot: str) -> WorkerLeft | None:
        """A goodbye; None where that boot isn't the worker's (any more)."""
        found = self.workers.get(worker)
        if found is None or found["boot"] != boot:
            return None
        found["tokens"], found["draining"] = [], True
        return WorkerLeft(worker=worker, boot=boot)

    def locations(self, job: str, after: int) -> tuple[int, list[tuple[MapLocation, bool]]]:
        """Entries after a position, with the new position; nothing of an unknown job."""
        found = self.jobs.get(job)
        if found is None:
            return after, []
        entries = found["locations"][after:]
        return after + len(entries), [(location(job, entry), entry[-1]) for entry in entries]

    def _boot(self, beat: Beat, before: dict[str, Any] | None) -> dict[str, Any]:
        """A worker's first beat under a new boot: the newest wins. Quarantine is the operator's word."""
        health = WorkerHealth.JOINING.value if beat.address else WorkerHealth.ALIVE.value
        old, word = list[str](), ["", 0.0]
        if before is not None:
            old = [*before["old"], before["boot"]][-64:]
            if before["health"] == WorkerHealth.QUARANTINED.value:
                health, word = before["health"], before["word"]
        made = self.workers[beat.worker] = {
            "boot": beat.boot,
            "old": old,
            "seq": 0,
            "tokens": [],
            "health": health,
            "word": word,
            "draining": False,
            "orders": [],
            "order": 0,
            "reported": [],
            "beat": beat,
            "about": {},
        }
        return made

    def heard(self) -> list[StoredWorker]:
        """The workers, as a new leader takes them over, as though all of them had beaten now."""
        return [
            StoredWorker(
                beat=replace(found["beat"], about=found["about"]),
                health=WorkerHealth(found["health"]),
                age_s=0.0,
                quarantine=_quarantine(found),
            )
            for found in self.workers.values()
        ]

    def _reply(self, orders: tuple[Numbered, ...], health: WorkerHealth, live: frozenset[str]) -> BeatReply:
        return BeatReply(
            orders=orders, health=health, live=live, store_id=self.store_id, incarnation=self.incarnation
        )

    def _lives(self, line: RunningAttempt) -> bool:
        job = self.jobs.get(line.attempt.task.job)
        found = _claim_with(job, line.attempt) if job is not None else None
        return found is not None and not found[1][A_STATUS]


def _take_fence(found: dict[str, Any], fence: Fence) -> WriteAnswer:
    """A later epoch takes it over; the same holder has it already."""
    current, given = found["fence"], fence_row(fence)
    if current[:3] == given[:3]:
        return WriteAnswer.ALREADY
    if given[:2] <= current[:2]:
        return WriteAnswer.FENCED
    found["fence"] = given
    return WriteAnswer.WRITTEN


def _quarantine(worker: dict[str, Any]) -> Quarantine | None:
    why, at = worker["word"]
    return Quarantine(why=why, at=at) if worker["health"] == WorkerHealth.QUARANTINED.value else None


def _claim_with(job: dict[str, Any], attempt: AttemptRef) -> tuple[str, list[Any]] | None:
    """The row, with its key, of a claim whose ticket still is its task's, of a job that isn't over."""
    role = role_with(job["tasks"].get(task_key(attempt.task)), attempt.ticket)
    if role is None or job["state"] in _OVER:
        return None
    key = attempt_key(attempt.task, role)
    row = job["attempts"].get(key)
    held = row is not None and row[A_TICKET] == attempt.ticket and row[A_TOKEN] == attempt.token
    return (key, row) if held else None
