"""What people are shown of workers (`core.worker_info`): why one isn't simply taking tasks, and how it ends.

It changes nothing; `now` is the machine's own time. What a worker runs and serves is told only where that is
asked for: the latter costs what there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from mrq.core import inform
from mrq.core.info import AttemptInfo
from mrq.core.machine_config import MachineConfig
from mrq.core.machine_state import State
from mrq.core.model import WorkerHealth
from mrq.core.tasks import packed_bytes_out
from mrq.core.worker_info import OutputInfo, WorkerInfo
from mrq.core.worker_table import Worker

#: Outputs of one worker that are listed, the largest; all are counted.
_OUTPUTS_LISTED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Both are empty of a worker that is well."""

    reason: str  #: why it has the health that it has, or what is amiss with one that is alive
    ends: str  #: what has to happen, or who has to do what, for it to be well again


def standing(worker: Worker, *, silent_s: float, config: MachineConfig) -> Standing:
    """How a worker stands that hasn't been heard of for `silent_s`."""
    match worker.health:
        case WorkerHealth.ALIVE:
            serving, full = str(worker.about.get("serving", "")), str(worker.about.get("full", ""))
            if serving:
                return Standing(reason=serving, ends="when it serves again, for which it is started anew")
            return Standing(
                reason=full, ends="when jobs end and leave room, or it is given more" if full else ""
            )
        case WorkerHealth.SUSPECT:
            return Standing(
                reason=f"no beat came for {silent_s:.0f} s",
                ends=f"with its next beat; without one for {config.dead_after_s:g} s it counts as dead",
            )
        case WorkerHealth.DEAD:
            return _dead(worker, config)
        case WorkerHealth.JOINING if worker.refused:
            return Standing(reason=worker.refused, ends="when it is started again, with the right version")
        case WorkerHealth.JOINING:
            return Standing(
                reason=worker.trouble or f"the leader hasn't reached it yet at {worker.address}",
                ends=f"when the leader reaches it, which it tries again every {config.dial_again.max_s:g} s "
                "at least",
            )
        case WorkerHealth.DRAINING:
            leaving = str(worker.about.get("leaving", ""))
            return Standing(
                reason=leaving or worker.trouble or "it was told to stop (SIGTERM)",
                ends="when what it runs has ended and nobody needs its map outputs, or after its drain "
                "timeout: then it leaves",
            )
        case WorkerHealth.QUARANTINED:
            return Standing(reason=_why(worker), ends=f"mrq workers readmit {worker.worker}")


def listed(workers: Iterable[Worker], *, now: float, config: MachineConfig) -> list[Worker]:
    """Those that a list of workers shows, in their order; `now` on the machine's clock.

    What a dead worker ran or kept for others was given away when it died, so there is little to say of it,
    and soon nothing. Where another one has taken its place there is nothing from then on: it listens at the
    dead one's address, or found its boot to be over when it began on the same disk. In containers that are
    made anew workers have other names, and the old ones would only be in the way.
    """
    workers = list(workers)
    there = [w for w in workers if w.health is not WorkerHealth.DEAD]
    addresses = {w.address for w in there if w.address and w.health is not WorkerHealth.JOINING}
    ended = {tuple(boot) for w in there for boot in w.about.get("ended", ())}

    def shows(worker: Worker) -> bool:
        if worker.health is not WorkerHealth.DEAD:
            return True
        replaced = worker.address in addresses or (worker.worker, worker.boot) in ended
        return not replaced and now - worker.beat_at < _listed_s(worker, config)

    return [w for w in workers if shows(w)]


def _listed_s(worker: Worker, config: MachineConfig) -> float:
    """For how long after its last beat a dead worker is listed: in quarantine an operator's word is out."""
    return config.forget_worker_s if worker.quarantined else config.list_dead_s


def _dead(worker: Worker, config: MachineConfig) -> Standing:
    reason = f"it said goodbye, or no beat came for {config.dead_after_s:g} s"
    ends = "when it is started again"
    if worker.quarantined:
        reason += f"; and it is in quarantine: {_why(worker)}"
        ends += f", and let in: mrq workers readmit {worker.worker}"
    return Standing(
        reason=reason,
        ends=f"{ends}; this row goes when another worker takes its place, or "
        f"{_listed_s(worker, config) / 60:g} min after its last beat",
    )


def _why(worker: Worker) -> str:
    told = worker.quarantine.why if worker.quarantine is not None else ""
    return told or "an earlier leader put it there: that one's log, or the worker's, says why"


def worker_info(state: State, w: Worker, now: float) -> WorkerInfo:
    """A worker, without what it runs and serves."""
    silent, about = max(0.0, now - w.beat_at), w.about
    stands = standing(w, silent_s=silent, config=state.config)
    shift = state.shift + state.wall
    since = w.since + shift
    if w.health is WorkerHealth.QUARANTINED and w.quarantine and w.quarantine.at:
        since = w.quarantine.at  # which outlasts boots and leaders
    return WorkerInfo(
        worker=w.worker,
        boot=w.boot,
        address=w.address,
        health=w.health,
        since=since,
        reason=stands.reason,
        ends=stands.ends,
        beat_at=w.beat_at + shift,
        silent_s=silent,
        beating=silent <= inform.PAUSED_S and w.health is not WorkerHealth.DEAD,
        map_slots=w.slots.map,
        reduce_slots=w.slots.reduce,
        total_slots=w.slots.total,
        map_used=w.used_map,
        reduce_used=w.used_reduce,
        hints=dict(w.hints),
        strikes=len(w.strikes),
        trouble=w.refused or w.trouble,
        full=w.full,
        version=str(about.get("version", "")),
        python=str(about.get("python", "")),
        packages=dict(about["packages"]) if about.get("packages") else None,
        disk_used=int(about.get("disk_used", 0)),
        disk_quota=int(about.get("disk_quota", 0)),
        disk_free=int(about.get("disk_free", 0)),
        debug=str(about.get("debug", "")),
        notes=tuple(map(str, about.get("notes", ()))),
    )


def whole_worker_info(state: State, w: Worker, now: float) -> WorkerInfo:
    """A worker with what it runs and serves: the latter costs what there is."""
    attempts: list[AttemptInfo] = []
    for token, task in w.held.items():
        found = state.in_flight(task)
        attempt = found[2].attempt(token) if found is not None else None
        if found is not None and attempt is not None:
            stage = inform.stage_name(found[0], task.kind)
            attempts.append(inform.attempt_info(state, stage, attempt, now))
    outputs: list[OutputInfo] = []  # that reduces still need
    for job in state.jobs.values():
        number = job.boot_number.get((w.worker, w.boot), 0)
        for index in job.maps.held_by(number) if number and job.shuffled and not job.state.is_over else ():
            packed = job.maps.results[index]
            size = packed_bytes_out(packed) if packed is not None else 0
            outputs.append(OutputInfo(job=job.spec.job, task=str(job.maps.task(index)), bytes=size))
    return replace(
        worker_info(state, w, now),
        attempts=tuple(attempts),
        outputs=tuple(sorted(outputs, key=lambda each: -each.bytes)[:_OUTPUTS_LISTED]),
        outputs_count=len(outputs),
        outputs_bytes=sum(each.bytes for each in outputs),
    )
