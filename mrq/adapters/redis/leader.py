"""The leader's side of the state: fenced batches, and what a new leader loads or restores."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from mrq.adapters.redis.blobs import RedisBlobs, check_code
from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.packing import (
    pack,
    pack_order,
    pack_row,
    pairs,
    quarantine,
    row,
    unpack,
    unpack_beat,
    unpack_spec,
    unpack_value,
)
from mrq.adapters.redis.scripts import Call
from mrq.adapters.redis.worker import W_AT, W_HEALTH, W_WHY
from mrq.core.commands import WriteJob, WriteLocation, WriteTask, WriteWorker
from mrq.core.events import AttemptClaimed, AttemptReported
from mrq.core.model import JobSpec, JobState, Quarantine, WorkerHealth
from mrq.core.store_api import Batch, Fence, StoredJob, StoredWorker, Write, WriteAnswer
from mrq.core.store_rows import (
    A_STATUS,
    claimed,
    is_current,
    task_key,
)
from mrq.errors import CorruptFileError

#: A finished job is kept so long, unless told otherwise.
KEEP_S: Final = 7 * 24 * 3600.0

_SCANNED: Final = 2000  #: fields at a time
_TOMBSTONES: Final = 10_000
_CODE_COMES_S: Final = 3600.0  #: from a bundle's bytes to the job that runs on it
_SILENT_S: Final = 7 * 24 * 3600.0  #: a worker that was silent for longer is dropped

#: The row of a task that is idle or completed.
_NO_TICKETS: Final = pack_row([0, 0])

#: States of a job whose claims and reports count for nothing, as in `core.claims`.
_OVER: Final = (JobState.COMMITTING, JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class RedisLeaderStore:
    """A LeaderStore and a LeaderState. What workers record arrives through `events.LeaderEvents`."""

    def __init__(self, connection: Connection, *, keep_s: float = KEEP_S) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._keep_s = keep_s
        self._blobs = RedisBlobs(connection)

    def init(self) -> str:
        """Give an id to a store without one, which any leader may then open; the id. Never done unasked:
        a store that was seen once and is gone is for the leader with a view to restore."""
        return self._open(0)

    # LeaderState.

    def identity(self) -> tuple[str, int, bool]:
        """(store id, incarnation, ready)."""
        store_id, incarnation, ready = self._connection.call(
            "HMGET", self._keys.store, "id", "incarnation", "ready"
        )
        return (store_id or b"").decode(), int(incarnation or 0), ready == b"1"

    def open(self, incarnation: int, store_id: str = "") -> None:
        """Say that everything is loaded: from now on there are answers."""
        self._open(incarnation, store_id)

    def jobs(self) -> list[str]:
        """Ids of all jobs that aren't expired, oldest first."""
        names = [name.decode() for name in self._connection.call("ZRANGE", self._keys.jobs, 0, -1)]
        there = self._connection.pipeline([("EXISTS", self._keys.claims(name)) for name in names])
        expired = [name for name, found in zip(names, there, strict=True) if not found]
        if expired:
            self._connection.call("ZREM", self._keys.jobs, *expired)
        return [name for name, found in zip(names, there, strict=True) if found]

    def expired(self, job: str) -> bool:
        """Was there such a job, whose records were kept long enough?"""
        there, gone = self._connection.pipeline(
            [("EXISTS", self._keys.claims(job)), ("ZSCORE", self._keys.gone, job)]
        )
        return not there and gone is not None

    def state(self, job: str) -> JobState | None:
        """How far a job is."""
        found = self._connection.call("HGET", self._keys.claims(job), "state")
        return None if found is None else JobState(found.decode())

    def load(self, job: str) -> StoredJob | None:
        """A job whole, read in pieces: what changes meanwhile is in the events."""
        head = ("state", "error", "record")
        spec, found, fence = self._connection.pipeline(
            [
                ("GET", self._keys.spec(job)),
                ("HMGET", self._keys.claims(job), *head),
                self._read_fence(job),
            ]
        )
        at = _fence(fence)
        if spec is None or at is None:
            return None
        state = JobState(found[0].decode())
        return StoredJob(
            spec=unpack_spec(spec),
            fence=at,
            state=state,
            error=None if found[1] is None else found[1].decode("utf-8", "surrogatepass"),
            job_record=found[2],
            records={field.decode(): record for field, record in self._scan(self._keys.records(job))},
            recorded=() if state in _OVER else tuple(self._recorded(job)),
        )

    def recorded(self) -> Iterator[AttemptClaimed | AttemptReported]:
        """What is claimed and reported of all tasks in progress, of all jobs that aren't over."""
        for job in self.jobs():
            state = self.state(job)
            if state is not None and state not in _OVER:
                with contextlib.suppress(CorruptFileError):  # of another version's: its job was given up
                    yield from self._recorded(job)

    def workers(self) -> list[StoredWorker]:
        """Each worker."""
        rows, beats, about, time = self._connection.pipeline(
            [
                ("HGETALL", self._keys.workers),
                ("HGETALL", self._keys.beats),
                ("HGETALL", self._keys.about),
                ("TIME",),
            ]
        )
        now = int(time[0]) + int(time[1]) / 1e6
        found, silent = [], []
        for name, data in rows.items():
            worker = row(data)
            age = max(0.0, now - worker[W_AT] / 1000)
            if age > _SILENT_S or name not in beats:
                silent.append(name)
                continue
            with contextlib.suppress(CorruptFileError):  # nobody's: what it says is passed over, too
                beat, refused = unpack_beat(beats[name])
                if name in about and not refused:
                    beat = replace(beat, about=unpack_value(about[name]))
                health = WorkerHealth(worker[W_HEALTH])
                word = quarantine(*worker[W_WHY:]) if health is WorkerHealth.QUARANTINED else None
                stored = StoredWorker(beat=beat, health=health, age_s=age, quarantine=word, refused=refused)
                found.append(stored)
        if silent:
            ours = self._keys
            keys = (ours.workers, ours.beats, ours.addresses, ours.about, ours.orders)
            reported_keys = [self._keys.reported(name.decode()) for name in silent]
            self._connection.pipeline([*(("HDEL", key, *silent) for key in keys), ("UNLINK", *reported_keys)])
        return found

    def logs(self, job: str) -> Mapping[str, str]:
        """Logs that workers put into the blobs, by name."""
        found = self._connection.call("HGETALL", self._keys.logs(job))
        return {name.decode(): digest.decode() for name, digest in found.items()}

    def restore(self, stored: StoredJob, code: bytes) -> WriteAnswer:
        """Write a job whole into a store that lost it, or is behind."""
        job = stored.spec.job
        self._put_code(stored.spec, code)
        tasks, locations, _, _ = _packed(stored.writes)
        records = [x for pair in stored.records.items() for x in pair]
        keys = self._keys
        return self._answer(
            Call(
                "restore",
                [*keys.of_job(job), keys.jobs, *self._code_keys(stored.spec), keys.gone],
                [
                    *_fence_args(stored.fence),
                    job,
                    pack(stored.spec),
                    stored.state.value,
                    *_optional(_text(stored.error)),
                    *_optional(stored.job_record),
                    len(tasks),
                    len(records),
                    len(locations),
                    *tasks,
                    *records,
                    *locations,
                ],
            )
        )

    # LeaderStore.

    def lead(self, fence: Fence) -> WriteAnswer:
        """Take the fence of what belongs to no job."""
        return self._answer(Call("lead", [self._keys.fence], _fence_args(fence)))

    def begin(self, spec: JobSpec, code: bytes, fence: Fence) -> WriteAnswer:
        """Store a job whole."""
        self._put_code(spec, code)
        claims, _, _, spec_key, news, progress, _ = self._keys.of_job(spec.job)
        keys = [self._keys.store, claims, spec_key, news, progress, self._keys.jobs]
        keys += [*self._code_keys(spec), self._keys.gone]
        return self._answer(Call("begin", keys, [*_fence_args(fence), spec.job, pack(spec)]))

    def write(self, batch: Batch) -> WriteAnswer:
        """Apply one batch atomically."""
        keys = self._keys
        claims, *others = keys.of_job(batch.job)
        tasks, locations, workers, state = _packed(batch.writes)
        records = [x for pair in batch.records for x in pair]
        orders = [x for each in batch.orders for x in (each.worker, each.boot, pack_order(each.order))]
        return self._answer(
            Call(
                "write",
                [
                    keys.store,
                    claims if batch.job else keys.fence,
                    *others,
                    keys.workers,
                    keys.orders,
                    keys.gone,
                ],
                [
                    *_fence_args(batch.fence),
                    batch.job,
                    "" if state is None else state.state.value,
                    *_optional(None if state is None else _text(state.error)),
                    *_optional(batch.job_record),
                    *map(len, (tasks, records, locations, workers, orders)),
                    *tasks,
                    *records,
                    *locations,
                    *workers,
                    *orders,
                ],
            )
        )

    def fence(self, job: str) -> Fence | None:
        """The fence as it stands."""
        return _fence(self._connection.call(*self._read_fence(job)))

    def forget(self, job: str) -> None:
        """Let a job that is over go once it was kept for `keep_s`."""
        keys = [*self._keys.of_job(job), self._keys.jobs, self._keys.gone]
        self._connection.run(Call("forget", keys, [job, int(self._keep_s * 1000), _TOMBSTONES]))

    def close(self) -> None:
        """The connection is closed by whoever made it, and so are the events."""

    def _open(self, incarnation: int, store_id: str = "") -> str:
        found: bytes = self._connection.run(
            Call("open", [self._keys.store], [incarnation, secrets.token_hex(8), store_id])
        )
        return found.decode()

    def _answer(self, call: Call) -> WriteAnswer:
        return WriteAnswer(self._connection.run(call).decode())

    def _put_code(self, spec: JobSpec, code: bytes) -> None:
        check_code(spec.code, code)
        self._blobs.put(code, keep_s=_CODE_COMES_S)

    def _code_keys(self, spec: JobSpec) -> tuple[str, str]:
        return self._keys.blob(spec.code), self._keys.code_users(spec.code)

    def _read_fence(self, job: str) -> tuple[str, ...]:
        key = self._keys.claims(job) if job else self._keys.fence
        return ("HMGET", key, "incarnation", "epoch", "owner", "seq")

    def _scan(self, key: str) -> Iterator[tuple[bytes, bytes]]:
        cursor: bytes | int = 0
        while True:
            cursor, packed = self._connection.run(Call("scan", [key], [cursor, _SCANNED]))
            found = pairs(packed)
            yield from zip(found[::2], found[1::2], strict=True)
            if cursor == b"0":
                return

    def _recorded(self, job: str) -> Iterator[AttemptClaimed | AttemptReported]:
        """As `core.claims` tells it."""
        tasks: dict[bytes, bytes] = {}
        attempts: dict[bytes, bytes] = {}
        reports: dict[bytes, bytes] = {}
        for field, data in self._scan(self._keys.claims(job)):
            if not field[1:2].isdigit():
                continue  # the job's own
            if field.endswith(b"!"):
                reports[field[:-1]] = data
            elif field[-1:].isdigit():
                tasks[field] = data
            else:
                attempts[field] = data
        for field, data in attempts.items():
            task, key = tasks.get(field[:-1]), field.decode()
            if task is None or task == _NO_TICKETS:
                continue
            found = row(data)
            if not is_current(row(task), key, found):
                continue
            yield claimed(job, key, found)
            if found[A_STATUS] and field in reports:
                yield unpack(AttemptReported, reports[field])


def _packed(writes: tuple[Write, ...]) -> tuple[list[Any], list[Any], list[Any], WriteJob | None]:
    """Task rows (field, row), locations, workers (as in scripts/write.lua), and the job's last state."""
    tasks: list[Any] = []
    locations: list[Any] = []
    workers: list[Any] = []
    state: WriteJob | None = None
    for write in writes:
        match write:
            case WriteTask():
                tasks += [task_key(write.task), pack_row([write.primary, write.backup])]
            case WriteLocation():
                locations.append(pack(write))
            case WriteWorker():
                word = write.quarantine or Quarantine()
                workers += [
                    write.worker,
                    write.boot,
                    write.health.value,
                    _text(word.why),
                    int(word.at * 1000),
                ]
            case WriteJob():
                state = write
    return tasks, locations, workers, state


def _text(value: Any) -> Any:
    return None if value is None else value.encode("utf-8", "surrogatepass")


def _optional(value: bytes | None) -> tuple[str, str | bytes]:
    return ("0", "") if value is None else ("1", value)


def _fence_args(fence: Fence) -> list[Any]:
    return [fence.incarnation, fence.epoch, fence.owner, fence.seq]


def _fence(found: list[bytes | None]) -> Fence | None:
    incarnation, epoch, owner, seq = found
    if incarnation is None or epoch is None or owner is None or seq is None:
        return None
    return Fence(incarnation=int(incarnation), epoch=int(epoch), owner=owner.decode(), seq=int(seq))
