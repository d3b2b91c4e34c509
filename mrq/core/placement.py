"""Who may run a job's tasks: workers that have the memory and the packages that it asks for.

What every worker may run goes through the queue. What only some may run is offered to one of those, in its
beat's answer: on the queue it would go round among the others. What none may run stays idle, until a worker
joins that may. A message that was out before a worker joined that mustn't take it is declined there, and
obsolete as soon as the leader has heard of that worker and taken the task back.
"""

from __future__ import annotations

from typing import Final

from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import FIT, State
from mrq.core.model import Needs
from mrq.core.needs import fits
from mrq.core.refs import Kind, TaskRef
from mrq.core.tasks import QUEUED
from mrq.core.worker_table import Worker

#: A worker that claims what it is offered as its slots get free has so many offers waiting, a slot …
_AHEAD_MAX: Final = 32
#: … as it is likely to need until the next ones come, with a beat's answer.
_ROUND_S: Final = 1.0


def takers(state: State, job: LeaderJob, kind: Kind) -> tuple[Worker, ...] | None:
    """The workers that may claim a job's tasks; None: every worker may, and so they go through the queue."""
    if job.takers_at != state.workers.changes:
        job.takers = {each: _takers(state, job.needs, each) for each in Kind}
        job.takers_at = state.workers.changes
    return job.takers[kind]


def _takers(state: State, needs: Needs, kind: Kind) -> tuple[Worker, ...] | None:
    there = [w for w in state.workers.all.values() if w.may_claim and w.own(kind)]
    found = tuple(w for w in there if fits(needs, w.hints.get("memory_bytes", 0), w.packages))
    return None if len(found) == len(there) else found


def others_take(state: State, job: LeaderJob, kind: Kind, avoid: list[str]) -> bool:
    """Is there a worker, free or not, that takes the job's tasks and isn't to be avoided?"""
    among = takers(state, job, kind)
    if among is None:
        return state.workers.other_takes(avoid)
    return any(w.takes and w.worker not in avoid for w in among)


def next_taker(state: State, job: LeaderJob, kind: Kind, among: tuple[Worker, ...]) -> Worker | None:
    """Whom to offer a task: the worker with the most room, offers that wait there counted. One whose slots
    are all in use may have a few waiting: they come before what it gets from the queue. One whose disk is
    full lets offers of maps pass, and would be offered the same one again and again."""
    median = job.durations[kind].median
    ahead = max(1, min(_AHEAD_MAX, int(_ROUND_S / median))) if median else 1
    best, most = None, 0
    for worker in among:
        if not worker.takes or (worker.full and kind is Kind.MAP):
            continue
        room = worker.free(kind) - _waiting(state, worker, kind)
        if room + ahead * worker.own(kind) > 0 and (best is None or room > most):
            best, most = worker, room
    return best


def _waiting(state: State, worker: Worker, kind: Kind) -> int:
    """Offers that a worker hasn't claimed yet; what became of the others is found out here."""
    for offer in [offer for offer in worker.offers if not _waits(state, worker, offer)]:
        del worker.offers[offer]
    return sum(offer.kind is kind for offer in worker.offers)


def _waits(state: State, worker: Worker, offer: TaskRef) -> bool:
    job, index = state.jobs.get(offer.job), offer.index
    table = job.table_of(offer) if job is not None and job.active else None
    if table is None or table.state[index] != QUEUED or table.ticket[index] != worker.offers[offer]:
        return False
    return table.flights[index].offered_to == worker.worker


def look_later(state: State) -> None:
    """After workers came or went: look soon who may run what is queued. Not at once: what was claimed and
    reported before may still be on its way, after a takeover above all."""
    if state.fitted_at != state.workers.changes and not state.fit_due:
        state.fit_due = True
        state.timer(state.config.fit_after_s, FIT, "")


def is_offered(state: State, job: LeaderJob, kind: Kind, index: int) -> bool:
    """Does an offer of a queued task wait at a worker that may still claim it?"""
    table = job.table(kind)
    worker = state.workers.all.get(table.flights[index].offered_to or "")
    return worker is not None and worker.may_claim and table.task(index) in worker.offers
