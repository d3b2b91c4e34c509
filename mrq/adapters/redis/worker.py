"""A worker's side of the state: claims, reports, beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mrq.adapters.redis.blobs import RedisBlobs
from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.locations import RedisLocations
from mrq.adapters.redis.packing import pack, pack_row, pack_value, row, unpack_order, unpack_spec
from mrq.adapters.redis.scripts import Call
from mrq.adapters.redis.worker_events import EVENTS_KEPT
from mrq.core.events import AttemptReported
from mrq.core.model import Beat, JobSpec, WorkerHealth
from mrq.core.orders import Drain, Numbered
from mrq.core.persistence import planned
from mrq.core.refs import AttemptRef, TaskRef
from mrq.core.store_api import Answer, BeatReply, ClaimAnswer, ClaimRequest, ReportAnswer
from mrq.core.store_rows import task_key

#: Columns of a worker's row (scripts/lib.lua).
W_BOOT, W_HEALTH, W_AT, W_LEFT, W_WHY = 0, 4, 7, 8, 9


class RedisWorkerStore(RedisLocations):
    """A WorkerStore. Every call but `locations` with a wait takes one round trip; raises OperatorError when
    the store can't be reached, and then the call may have been carried out: ask again."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._blobs = RedisBlobs(connection)

    def job(self, job: str, stage: int | None = None) -> JobSpec | None:
        """The job's spec; another round trip for a stage that depends on the one before."""
        found, records = self._connection.call("GET", self._keys.spec(job)), self._keys.records(job)
        spec = found and unpack_spec(found)
        return spec and planned(spec, stage, lambda key: self._connection.call("HGET", records, key))

    def code(self, digest: str) -> bytes | None:
        """A bundle by its sha256."""
        return self._blobs.get(digest)

    def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        """Ask for attempts."""
        keys = self._keys
        names: dict[str, int] = {keys.store: 1, keys.workers: 2, keys.events: 3}
        rows = []
        for request in requests:
            message = request.message
            rows.append(
                [
                    names.setdefault(keys.claims(message.task.job), len(names) + 1),
                    message.task.job,
                    task_key(message.task),
                    message.ticket,
                    request.worker,
                    request.boot,
                    request.token,
                    int(request.worker == message.not_worker or not request.fits),
                    "" if request.held_beat_seq is None else request.held_beat_seq,
                    request.held_token or "",
                ]
            )
        found = self._connection.run(Call("claim", list(names), [EVENTS_KEPT, pack_row(rows)]))
        tasks = [request.message.task for request in requests]
        return [_claim_answer(*each) for each in zip(tasks, row(found), strict=True)]

    def report(self, reports: Sequence[AttemptReported]) -> list[ReportAnswer]:
        """Record outcomes."""
        keys = self._keys
        names: dict[str, int] = {keys.store: 1, keys.workers: 2, keys.events: 3}
        rows = [
            [
                names.setdefault(keys.claims(report.attempt.task.job), len(names) + 1),
                names.setdefault(keys.reported(report.worker), len(names) + 1),
                task_key(report.attempt.task),
                report.attempt.ticket,
                report.attempt.token,
                report.outcome.status.value,
                report.worker,
                report.boot,
            ]
            for report in reports
        ]
        args = [EVENTS_KEPT, pack_row(rows), *map(pack, reports)]
        return [
            ReportAnswer(each.decode()) for each in self._connection.run(Call("report", list(names), args))
        ]

    def beat(self, beat: Beat) -> BeatReply | None:
        """Renew the lease of everything listed."""
        jobs: dict[str, int] = {}
        lines = [
            [
                jobs.setdefault(line.attempt.task.job, len(jobs) + 1),
                task_key(line.attempt.task),
                line.attempt.ticket,
                line.attempt.token,
            ]
            for line in beat.running
        ]
        keys = self._keys
        names = [keys.store, keys.workers, keys.beats, keys.about, keys.orders, keys.events]
        names += [keys.reported(beat.worker), keys.addresses]
        args = [
            beat.worker,
            beat.boot,
            beat.seq,
            int(beat.draining),
            beat.acked_order,
            pack(beat),
            pack_value(dict(beat.about)) if beat.about else "",
            EVENTS_KEPT,
            (WorkerHealth.JOINING if beat.address else WorkerHealth.ALIVE).value,
            pack_row(lines),
            pack_row([beat.boot, beat.address]),
        ]
        found = self._connection.run(Call("beat", [*names, *map(keys.claims, jobs)], args))
        return None if found is None else _reply(beat, found)

    def boot(self, worker: str) -> tuple[str, float] | None:
        """The boot that beats under an id, and for how long it has been silent."""
        found, time = self._connection.pipeline([("HGET", self._keys.workers, worker), ("TIME",)])
        if found is None:
            return None
        boot, at_ms, left = (row(found)[column] for column in (W_BOOT, W_AT, W_LEFT))
        return None if left else (boot, max(0.0, int(time[0]) + int(time[1]) / 1e6 - at_ms / 1000))

    def log(self, job: str, name: str, blob: str) -> None:
        """Note where an attempt's log is."""
        self._connection.run(Call("log", [self._keys.claims(job), self._keys.logs(job)], [name, blob]))

    def leave(self, worker: str, boot: str) -> None:
        """Goodbye of a worker."""
        call = Call("leave", [self._keys.workers, self._keys.events], [worker, boot, EVENTS_KEPT])
        self._connection.run(call)


def _claim_answer(task: TaskRef, found: list[Any]) -> ClaimAnswer:
    answer = Answer(found[0])
    if len(found) == 1:
        return ClaimAnswer(answer=answer)
    attempt = AttemptRef(task, *found[1:4])
    return ClaimAnswer(answer=answer, attempt=attempt, beat_seq=found[4] if len(found) > 4 else None)


def _reply(beat: Beat, found: list[Any]) -> BeatReply:
    health, store_id, incarnation, live, packed = found
    if health == b"dead boot":
        orders = [Numbered(number=beat.acked_order + 1, order=Drain())]
        health = WorkerHealth.DEAD.value.encode()
    else:
        pairs = zip(packed[::2], packed[1::2], strict=True)
        orders = [Numbered(number=number, order=unpack_order(order)) for number, order in pairs]
    return BeatReply(
        orders=tuple(orders),
        health=WorkerHealth(health.decode()),
        live=frozenset(
            line.attempt.token for line, flag in zip(beat.running, live, strict=False) if flag == ord("1")
        ),
        store_id=store_id.decode(),
        incarnation=incarnation,
    )
