"""How workers come and go: dialled back before their first task, refused, let go when nothing is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import DIAL, State, dice
from mrq.core.model import WorkerHealth
from mrq.core.orders import Drain, Notify, Release
from mrq.core.placement import others_take
from mrq.core.refs import Kind
from mrq.core.shuffle_rules import lose_maps, outputs_needed
from mrq.core.tasks import IDLE, QUEUED
from mrq.core.worker_table import Worker


def join(state: State, worker: Worker, address: str, *, reached: bool) -> None:
    """It names an address, or another one: no tasks before that was dialled back, by whichever leader."""
    state.workers.take_out(worker)
    worker.address, worker.reached, worker.dials = address, reached or not address, 0
    if not worker.draining:
        worker.trouble = ""
    state.workers.put_in(worker)
    if not worker.reached:
        dial(state, worker)


def dial(state: State, worker: Worker) -> None:
    """Ask for a verdict, and again when none comes."""
    worker.dial += 1
    state.out.append(c.DialWorker(worker=worker.worker, boot=worker.boot, address=worker.address))
    state.timer(state.config.dial_timeout_s, DIAL, worker.worker, worker.dial)


def dial_due(state: State, name: str, number: int) -> None:
    """An address may be tried again, or its verdict never came."""
    worker = state.workers.all.get(name)
    if worker is None or worker.reached or worker.dial != number or worker.live is WorkerHealth.DEAD:
        return  # a beat of one that is dead brings it back, and dials
    dial(state, worker)


def on_dialled(state: State, event: e.WorkerDialled) -> None:
    """From now on it counts; or it is tried again, later each time, and people see why it gets nothing, here
    and in its own log."""
    worker = state.workers.all.get(event.worker)
    if worker is None or worker.boot != event.boot or worker.reached:
        return
    if event.trouble:
        if event.trouble != worker.trouble:
            worker.trouble = event.trouble
            state.give(worker, Notify(text=f"no tasks yet: {event.trouble}"))
        worker.dials += 1
        chance = dice(f"{event.worker}/{event.boot}/{worker.dials}")
        state.timer(state.config.dial_again.wait_s(worker.dials, chance), DIAL, worker.worker, worker.dial)
        return
    state.workers.take_out(worker)
    worker.reached, worker.dials = True, 0
    if not worker.draining:
        worker.trouble = ""
    state.workers.put_in(worker)
    state.write_worker(worker)


def refuse(state: State, worker: Worker, why: str) -> None:
    """A worker is given nothing until it is started again, when it is another boot. What it runs goes on, and
    what it keeps for others is read there."""
    if not why or why == worker.refused:
        return
    state.workers.take_out(worker)
    worker.refused = why
    state.workers.put_in(worker)


def other_version(mine: str, about: Mapping[str, Any]) -> str:
    """Why a worker is refused whose mrq differs from the masters' in more than its last number; else ""."""
    its = str(about.get("version", ""))
    if not mine or not its or mine.split(".")[:2] == its.split(".")[:2]:
        return ""
    return f"it runs mrq {its} and the masters mrq {mine}: start it from the same mrq as the masters"


def tell_refused(state: State, worker: Worker, why: str) -> None:
    """Have a worker say in its own log why it gets nothing."""
    state.give(worker, Notify(text=f"no tasks: {why}"))


def drain(state: State, worker: Worker, why: str) -> None:
    """It takes nothing more, finishes what it has, and leaves."""
    state.workers.take_out(worker)
    worker.draining, worker.trouble = True, why
    state.workers.put_in(worker)
    state.give(worker, Drain(reason=why))


def let_go(state: State, worker: Worker) -> None:
    """What becomes of a draining worker's map outputs.

    Reduces that run go on reading them there. Where others of the job still have to begin, which may be long
    after it has left, its maps run again at once, if anybody can run them. Once nobody needs anything of it,
    it is told so; it doesn't wait for that beyond its own bound.
    """
    needed = bool(worker.held)
    for job in list(state.active.values()):
        number = job.boot_number.get((worker.worker, worker.boot))
        if number is None or number not in job.maps.heads or not outputs_needed(job):
            continue
        if _some_begin_later(job) and others_take(state, job, Kind.MAP, [worker.worker]):
            lose_maps(state, job, job.maps.held_by(number), f"worker {worker.worker} drains")
        else:
            needed = True
    if not needed:
        worker.released = True
        state.give(worker, Release())


def _some_begin_later(job: LeaderJob) -> bool:
    reduces = job.reduces
    return reduces.counts[IDLE] > 0 or reduces.counts[QUEUED] > 0
