"""What happens to maps whose output is gone or came out differently, and to the reduces that read it."""

from __future__ import annotations

from collections.abc import Iterable

from mrq.core.digest import MASK, consumed
from mrq.core.jobs import LeaderJob
from mrq.core.machine_config import ReduceStart
from mrq.core.machine_state import STALL, State
from mrq.core.model import FetchFailure, TaskResult
from mrq.core.refs import Kind
from mrq.core.task_transitions import alive, arm, make_ready, take_back, write_location
from mrq.core.tasks import COMPLETED, IDLE, QUEUED, RUNNING, TaskTable


def outputs_needed(job: LeaderJob) -> bool:
    """Will a reduce read map outputs again?"""
    return job.shuffled and not job.reduces.done


def lose_maps(state: State, job: LeaderJob, indices: Iterable[int], why: str) -> None:
    """Completed maps whose output is gone are run again; their digest and result stay accepted."""
    maps = job.maps
    for index in indices:
        write_location(state, job, index, withdrawn=True)
        maps.unlink(index)
        maps.move(index, IDLE, why)
        job.reruns += 1
        state.write_task(maps, index)
        make_ready(state, maps, index)
    if state.config.reduce_start is not ReduceStart.FIRST_MAPS:
        for index in [i for i in job.reduces.flights if job.reduces.state[i] == QUEUED]:
            take_back(state, job.reduces, index, "a map must run again first")
    for index in [i for i, flight in job.reduces.flights.items() if flight.alone and flight.fetches]:
        take_back(state, job.reduces, index, "a map must run again before it runs alone")
    if job.reduces.in_progress:
        arm(state, job, STALL, state.config.stall_after_s)


def fetch_failed(state: State, job: LeaderJob, reducer: int, failures: Iterable[FetchFailure]) -> str | None:
    """A reducer couldn't read some outputs. Returns why the job fails, if it does."""
    maps = job.maps
    lost: list[int] = []
    strict = job.strict_order
    for failure in failures:
        index = failure.map_index
        if not 0 <= index < len(maps) or maps.state[index] != COMPLETED or index in lost:
            continue
        if maps.winner_ticket[index] != failure.ticket:
            continue  # it read an output that is out of date already
        if failure.reason == "unreachable" and not _give_up_on(state, job, index, reducer):
            continue
        trouble = maps.troubled(index)
        trouble.fetch_reruns += 1
        trouble.unreachable, trouble.unreachable_all = None, 0
        if failure.reason == "unordered":
            trouble.careful = True
            strict = True
        if trouble.fetch_reruns > state.config.map_reruns_max:
            return _no_use(job, index, failure.reason, state.config.map_reruns_max)
        lost.append(index)
    lose_maps(state, job, lost, f"its output couldn't be used by {job.reduces.task(reducer)}")
    if strict != job.strict_order:
        # What is left out mustn't depend on which reduce came first.
        job.strict_order = strict
        state.write_job(job)
        roll_back(state, job, "a value can't be ordered: each is to be looked at")
    return None


def _no_use(job: LeaderJob, index: int, reason: str, times: int) -> str:
    """Why a job fails by a map whose output can't be used, however often it is made."""
    name = job.maps.task(index)
    if reason == "unordered":
        return (
            f"{name} gave values that sort_values can't order, and none when it ran again to say of which "
            f"record, {times} times: the job is nondeterministic"
        )
    return (
        f"the output of {name} couldn't be fetched ({reason}), and running the map again {times} times "
        f"didn't help; look at the disk and the network of worker {job.boots[job.maps.boot[index]][0]}"
    )


def _give_up_on(state: State, job: LeaderJob, index: int, reducer: int) -> bool:
    """Is an output that can't be reached to be made again? Not on one reducer's word, if it lives."""
    worker, boot = job.boots[job.maps.boot[index]]
    if not alive(state, worker, boot):
        return True
    trouble = job.maps.troubled(index)
    if trouble.unreachable is None:
        trouble.unreachable = []
    if reducer not in trouble.unreachable:
        trouble.unreachable.append(reducer)
    trouble.unreachable_all += 1
    enough = min(state.config.unreachable_reducers, -(-len(job.reduces) // 2))
    return len(trouble.unreachable) >= enough or trouble.unreachable_all >= 3 * enough


def accept_map(state: State, job: LeaderJob, index: int, result: TaskResult) -> str | None:
    """Count a map's result in place of an older one. Returns why the job fails, if it does.

    When it came out differently, every reduce that may have consumed the old output goes back.
    """
    maps = job.maps
    old = maps.result(index)
    if old is None:
        job.accepted += 1
        before = None
    else:
        job.add(Kind.MAP, old, -1)
        before = maps.digest[index]
        job.digest_sum -= consumed(index, before)
    digest = maps.digest[index] = result.digest & MASK
    job.digest_sum = (job.digest_sum + consumed(index, digest)) & MASK
    job.add(Kind.MAP, result)
    if job.shuffled and before is not None and before != digest:
        name = str(maps.task(index))
        if roll_back(state, job, f"{name} came out differently") and not job.excuses(index):
            return _rolled_back(state, job, name)
    return None


def roll_back(state: State, job: LeaderJob, why: str) -> bool:
    """Put every reduce that may have consumed an old output back to idle. Was there one?"""
    reduces = job.reduces
    consumers = reduces.counts[COMPLETED] + reduces.counts[RUNNING]
    for index in list(reduces.flights):
        # A queued one may have been claimed already; what it has consumed would then be refused as wrong.
        take_back(state, reduces, index, why)
    if reduces.counts[COMPLETED]:
        at = reduces.state.find(COMPLETED)
        while at >= 0:
            uncomplete_reduce(state, job, at, why)
            at = reduces.state.find(COMPLETED, at)
    return consumers > 0


def _rolled_back(state: State, job: LeaderJob, name: str) -> str | None:
    job.rollbacks += 1
    if job.rollbacks <= state.config.rollbacks_max:
        return None
    return (
        f"the job is nondeterministic: {name} and other maps came out differently when they were run again, "
        f"and reduces had to start over {state.config.rollbacks_max} times; make map, combine and partition "
        "depend on nothing but the record (use self.task.rng for random numbers)"
    )


def uncomplete_reduce(state: State, job: LeaderJob, index: int, why: str) -> None:
    """A completed reduce's result no longer counts."""
    reduces = job.reduces
    result = reduces.result(index)
    if result is not None:
        job.add(Kind.REDUCE, result, -1)
    reduces.move(index, IDLE, why)
    reduces.results[index] = reduces.token[index] = None
    job.reruns += 1
    state.write_task(reduces, index)
    make_ready(state, reduces, index)


def conserved(job: LeaderJob, result: TaskResult) -> bool:
    """Did a reduce consume exactly one accepted output of every map?"""
    return job.accepted == len(job.maps) and result.digest & MASK == job.digest_sum


def idle_maps(table: TaskTable) -> int:
    """Maps that wait for a slot."""
    return table.counts[IDLE] + table.counts[QUEUED]
