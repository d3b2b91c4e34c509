"""Tasks that run alone on their worker, because they were lost with others before.

A record can take its whole worker down: it has the machine run out of memory, or kills every process of its
user. Which of the tasks that ran there it was in can't be seen, and a worker may be killed for reasons of its
own. So what was lost with two boots is handed out alone: it is offered to one worker, which then takes
nothing else, ends what it has, and claims it once there is nothing beside it (`core.agent_items`). Good tasks
run through, and what is lost three times in this way has shown by itself what it does.

- The worker is one that the task was lost with least often, so that a machine that always dies doesn't make
  poison of it; among those, one that holds few map outputs: they would go with it. Where that one is busy for
  long, one that has nothing to do.
- Where workers die one after another for reasons of their own, as when all of them are killed, nothing is
  shown: a loss alone counts unless another boot was lost shortly before (`MachineConfig.storm_s`) that ran
  neither this task nor another one alone. What all losses are bound by holds all the same.
- Some workers are always left to the others (`MachineConfig.alone_share`), but where there is only one.
- A reduce waits until all maps are there, and is taken back where maps are lost before it reduces: it would
  keep a worker from them. So is a reduce that waits for maps where another task is to run alone: it might be
  waiting for this very map.
- The leader takes the worker out of its totals meanwhile; nothing in the store says it.
"""

from __future__ import annotations

from mrq.core.jobs import LeaderJob
from mrq.core.machine_state import State, stable_hash
from mrq.core.placement import takers
from mrq.core.refs import Kind
from mrq.core.task_transitions import take_back
from mrq.core.tasks import QUEUED, FailureHistory, TaskTable
from mrq.core.worker_table import Worker


def is_wanted(state: State, table: TaskTable, index: int) -> bool:
    """Is this task to run alone, the next time?"""
    trouble = table.trouble.get(index)
    return trouble is not None and len(trouble.workers_lost or ()) >= state.config.alone_after


def worker_for(state: State, job: LeaderJob, table: TaskTable, index: int) -> Worker | None:
    """Whom to offer a task that runs alone; None: it has to wait."""
    kind, kept = table.kind, len(state.workers.kept)
    everybody = len(state.workers.out) + kept
    if kept >= max(1, int(everybody * state.config.alone_share)):
        return None
    if kind is Kind.REDUCE and not job.maps.done:
        return None
    able = _able(state, job, kind)
    trouble, name = table.troubled(index), table.name(index)
    lost = lost_with(trouble)

    waited, trouble.waits = trouble.waits > 0, 0

    def harm(w: Worker) -> tuple[bool, int, int, int, int]:
        # At last by chance: workers that are killed one after the other mustn't be chosen in that very order.
        dice = stable_hash(f"{name}/{table.ticket[index] + 1}/{w.worker}/{w.boot}")
        return waited and bool(w.held), lost.count(w.worker), _outputs(state, w), len(w.held), dice

    return min(able, key=harm, default=None)


def _able(state: State, job: LeaderJob, kind: Kind) -> list[Worker]:
    among = takers(state, job, kind)
    there = state.workers.all.values() if among is None else among
    return [w for w in there if w.takes and w.own(kind) and not (w.full and kind is Kind.MAP)]


def lost_with(trouble: FailureHistory) -> list[str]:
    """The workers that a task was lost with, one for each boot."""
    return [entry.rpartition("/")[0] for entry in trouble.workers_lost or ()]


def is_by_itself(state: State, worker: Worker) -> bool:
    """Does a worker run one task alone, and nothing else?"""
    if len(worker.held) != 1:
        return False
    task = next(iter(worker.held.values()))
    found = state.in_flight(task)
    return found is not None and found[2].alone


def note_death(state: State, worker: Worker) -> None:
    """A worker is lost with all that it holds, unless what it ran alone may be the reason."""
    if not is_by_itself(state, worker):
        note_lost(state, worker.worker, worker.boot)


def note_lost(state: State, worker: str, boot: str) -> None:
    """A boot was lost, for whatever reason."""
    since, name = state.now - state.config.storm_s, _boot(worker, boot)
    state.lost_boots = [each for each in state.lost_boots if each[0] >= since and each[1] != name]
    state.lost_boots.append((state.now, name))


def count(state: State, trouble: FailureHistory, worker: str, boot: str, *, alone: bool) -> None:
    """A task was lost with a boot, each of which counts once; `alone`: nothing else ran there."""
    name = _boot(worker, boot)
    trouble.workers_lost = [*(each for each in trouble.workers_lost or () if each != name), name]
    trouble.lost_alone += alone and _shows(state, trouble)


def note_beside(trouble: FailureHistory, worker: str, boot: str) -> None:
    """A task was ended where others ran beside it. If that boot is lost all the same, it may be its doing."""
    trouble.beside = [*(trouble.beside or ()), _boot(worker, boot)]


def _boot(worker: str, boot: str) -> str:
    return f"{worker}/{boot}"


def _shows(state: State, trouble: FailureHistory) -> bool:
    """Does the loss of a worker that ran one task alone say something of that task? Not in a storm."""
    since = state.now - state.config.storm_s
    own = {*(trouble.workers_lost or ()), *(trouble.beside or ())}
    return all(at < since or boot in own for at, boot in state.lost_boots)


def _outputs(state: State, worker: Worker) -> int:
    """Map outputs on a worker that would have to be made again."""
    found = 0
    for job in state.active.values():
        number = job.boot_number.get((worker.worker, worker.boot))
        if number in job.maps.heads:
            found += sum(1 for _ in job.maps.held_by(number))
    return found


def keep(state: State, worker: Worker, table: TaskTable, index: int) -> None:
    """From now on a worker is kept for one task."""
    task, ticket = table.task(index), table.ticket[index]
    state.workers.keep(worker, (task, ticket))
    worker.offers[task] = ticket
    clear(state, worker)


def waits(state: State, job: LeaderJob, worker: Worker, table: TaskTable, index: int) -> bool:
    """Has a worker that is kept for a task something to end before, and nobody else has nothing to do? One
    that takes no work any more would let the offer pass, again and again."""
    table.troubled(index).waits += 1
    if not worker.held or worker.alone != (table.task(index), table.ticket[index]):
        return False
    if not worker.may_claim or (worker.full and table.kind is Kind.MAP):
        return False
    return all(w.held for w in _able(state, job, table.kind))


def clear(state: State, worker: Worker) -> None:
    """Reduces that wait for maps would hold a worker for ever that one of those maps is waiting for."""
    for task in list(worker.held.values()):
        job = state.jobs.get(task.job)
        reduces = job.reduces if job is not None and task.kind is Kind.REDUCE else None
        flight = reduces.flights.get(task.index) if reduces is not None else None
        if job is None or flight is None or job.maps.done:
            continue
        if flight.fetches:
            take_back(state, job.reduces, task.index, f"a task is to run alone on {worker.worker}")


def look_over(state: State) -> None:
    """Let go of workers whose task is over, or was taken back; an offer that was lost with its worker is made
    anew at once."""
    for name in list(state.workers.kept):
        worker = state.workers.all.get(name)
        if worker is None or worker.alone is None:
            state.workers.kept.pop(name, None)
        elif not _holds(state, worker):
            task, ticket = worker.alone
            state.workers.let_go(worker)
            table = state.active[task.job].table_of(task) if task.job in state.active else None
            if table is None or table.ticket[task.index] != ticket:
                continue
            if table.state[task.index] == QUEUED:
                take_back(state, table, task.index, f"{name} is gone before it could run it alone")


def _holds(state: State, worker: Worker) -> bool:
    """Is the task that a worker is kept for offered to it still, or running there?"""
    assert worker.alone is not None
    task, ticket = worker.alone
    found = state.in_flight(task)
    if found is None or found[1].ticket[task.index] != ticket:
        return False
    _, table, flight = found
    if table.state[task.index] == QUEUED:
        return flight.offered_to == worker.worker and task in worker.offers
    primary = flight.primary
    return primary is not None and (primary.worker, primary.boot) == (worker.worker, worker.boot)


def keep_again(state: State) -> None:
    """After a takeover: the workers that the predecessor kept, by what is offered or runs."""
    for job in state.active.values():
        for table in job.tables:
            for index, flight in table.flights.items():
                if not flight.alone:
                    continue
                name = flight.primary.worker if flight.primary is not None else flight.offered_to
                worker = state.workers.all.get(name or "")
                if worker is not None and worker.takes:
                    keep(state, worker, table, index)
