"""A job's life: submitted, its completions, commit, cancel, retry, and coming back after a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.admission import other_version, tell_refused
from mrq.core.alone import keep_again
from mrq.core.digest import MASK
from mrq.core.inform import stage_infos
from mrq.core.jobs import LeaderJob, Passed
from mrq.core.machine_state import STALL, STRAGGLERS, State
from mrq.core.model import NO_LIMITS, JobState, Role, StagePlan, TaskResult, WorkerHealth
from mrq.core.orders import DropJob, DropMaps
from mrq.core.persistence import adopt
from mrq.core.placement import takers
from mrq.core.refs import AttemptRef, Kind
from mrq.core.shuffle_rules import (
    accept_map,
    lose_maps,
    outputs_needed,
    uncomplete_reduce,
)
from mrq.core.task_transitions import (
    arm,
    arm_offer,
    drop_flight,
    end_job,
    fail_job,
    make_ready,
    publish,
    stop_tasks,
    write_location,
)
from mrq.core.tasks import COMPLETED, IDLE, QUEUED, RUNNING, TaskTable, pack_result

if TYPE_CHECKING:
    from mrq.core.checked import WrongPart


def on_submitted(state: State, event: e.JobSubmitted) -> None:
    """A new job; the same one again changes nothing."""
    spec = event.spec
    if spec.job in state.jobs:
        return
    job = LeaderJob(spec, state.now, state.history, state.totals)
    state.jobs[spec.job] = state.active[spec.job] = job
    state.write_job(job)
    check_finished(state, job)


def complete(
    state: State, job: LeaderJob, table: TaskTable, index: int, won: AttemptRef, boot: int, result: TaskResult
) -> str | None:
    """Record a winner. Returns why the job fails, if it does."""
    kind = table.kind
    drop_flight(state, table, index)
    table.move(index, COMPLETED, f"attempt {won.token} won")
    table.finished_at[index] = table.updated_at[index] = state.now
    table.winner_ticket[index], table.winner_number[index] = won.ticket, won.number
    table.token[index] = won.token
    table.ticket[index] = max(table.ticket[index], won.ticket)
    error = None
    if kind is Kind.MAP:
        error = accept_map(state, job, index, result)
    else:
        table.digest[index] = result.digest & MASK
        job.add(kind, result)
    table.results[index] = pack_result(result)
    job.completions += 1
    if result.seconds > job.slowest[kind][0]:
        job.slowest[kind] = (result.seconds, index)
    if kind is Kind.MAP and job.shuffled:
        table.link(index, boot)
    else:
        table.boot[index] = boot
    state.write_task(table, index)
    if kind is Kind.MAP and job.shuffled:
        write_location(state, job, index, withdrawn=False)
    return error or _too_many_bad(job)


def _too_many_bad(job: LeaderJob) -> str | None:
    bad = job.bad_records
    if bad <= job.spec.skip_bad_records:
        return None
    return (
        f"{bad} records are bad, more than the {job.spec.skip_bad_records} that skip_bad_records allows; "
        "mend the job or the data, or allow more"
    )


def settle(state: State, job: LeaderJob, error: str | None) -> None:
    """After a completion: the job fails, is finished, or goes on."""
    if error is not None:
        fail_job(state, job, error)
    else:
        check_finished(state, job)


def check_finished(state: State, job: LeaderJob) -> None:
    """With every winner there, go on to the next stage, or freeze them and commit."""
    if not job.active or not job.winners.done or job.accepted < len(job.maps):
        return
    emitted, took = job.sums[Kind.MAP]["records_out"], job.sums[Kind.REDUCE]["records_in"]
    if job.shuffled and emitted != took:
        fail_job(
            state,
            job,
            f"conservation: maps emitted {emitted} records and reduces consumed {took}; nothing was "
            "committed. This is a damaged disk or a bug in mrq: please report it",
        )
        return
    wrong = _wrong_parts(job)
    if wrong:
        if all(job.maps.state[index] == COMPLETED for part in wrong for index in part.maps):
            _misread(state, job, wrong)
        return  # or else they are being read again
    if job.following is not None:
        _plan_following(state, job)
        return
    stop_tasks(state, job, "no longer needed: every winner is there")
    job.move(JobState.COMMITTING, "every winner is there")
    state.active.pop(job.spec.job, None)
    state.write_job(job)
    start_commit(state, job)


def _plan_following(state: State, job: LeaderJob) -> None:
    """Ask for the plan of the next stage; replayable."""
    following = job.following
    assert following is not None
    samples: tuple[bytes, ...] = ()
    if job.samples:
        results = map(job.maps.result, range(len(job.maps)))
        samples = tuple(result.sample for result in results if result and result.sample is not None)
    state.out.append(
        c.PlanStage(
            job=job.spec.job,
            complete=job.number,
            stage=job.following_number,
            known=job.plan.then or StagePlan(reducers=following.reducers),
            samples=samples,
            parts=() if job.samples else job.parts(),
        )
    )


def on_planned(state: State, event: e.StagePlanned) -> None:
    """A job goes on to its next stage, unless it has done so already, or is over."""
    job = state.jobs.get(event.job)
    if job is None or not job.active or not job.winners.done:
        return
    if job.following is None or job.following_number != event.stage:
        return
    _leave_stage(state, job, "its stage is complete")
    if not job.samples:
        bad = tuple(file for file in job.winners_files() if file.is_bad)
        passed = Passed(stages=stage_infos(state, job), counters=dict(job.counters), bad=bad)
        job.take_passed((*job.passed, passed))
    job.begin(job.at + 1, event.plan)
    state.write_plan(job)
    state.write_job(job)
    check_finished(state, job)


def _leave_stage(state: State, job: LeaderJob, why: str) -> None:
    """Nothing runs of the stage any more, and nobody reads the outputs of its maps."""
    stop_tasks(state, job, why)
    if job.shuffled:
        state.out.append(c.GiveAll(order=DropMaps(job=job.spec.job, stage=job.number)))


def on_parts_lost(state: State, event: e.PartsLost) -> None:
    """What a stage wrote for those after it isn't there any more."""
    job = state.jobs.get(event.job)
    if job is not None and job.active and job.number == event.stage and job.spec.several:
        begin_again(state, job, event.why)


def begin_again(state: State, job: LeaderJob, why: str) -> None:
    """What the stage that the job is at reads is gone, or isn't what was written: a durable file was lost.

    The stage before has to write it again, and what that one read was removed when it was complete: so the
    job begins again at its first stage, which reads what the user gave, and nothing that was made of the old
    bytes counts any more. Each stage has another number from then on.
    """
    job.parts_lost += 1
    if job.parts_lost > state.config.parts_lost_max:
        fail_job(
            state,
            job,
            f"{why}; the job began again at its first stage {state.config.parts_lost_max} times for such "
            "parts: look at the disk of the output, and at what else writes there",
        )
        return
    _leave_stage(state, job, why)
    job.reruns += sum(table.counts[COMPLETED] for table in job.tables)
    job.reruns += sum(stage.completed for each in job.passed for stage in each.stages)
    job.again += 1
    job.forget_passed()
    job.begin(0)
    state.write_job(job)
    check_finished(state, job)


def _wrong_parts(job: LeaderJob) -> list[WrongPart]:
    """Inputs of which the accepted maps read other bytes than their manifests say."""
    return job.checked.wrong(job.maps.result) if job.checked is not None else []


def _misread(state: State, job: LeaderJob, wrong: list[WrongPart]) -> None:
    """Maps that are all complete read other bytes than they should."""
    if job.stage.reads_parts:
        begin_again(state, job, f"{wrong[0].path} isn't what was written, by its checksum")
    else:
        fail_job(state, job, _as_damaged(wrong))


def _as_damaged(wrong: list[WrongPart]) -> str:
    more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
    return (
        f"{wrong[0].path}{more}: its bytes aren't those that its job wrote, by the checksum in the _SUCCESS "
        "beside it: it was damaged or changed since; nothing was committed. Copy it again, or run the job "
        "again that made it; to read it as it is, move its _SUCCESS away"
    )


def start_commit(state: State, job: LeaderJob) -> None:
    """Ask for the commit; replayable."""
    stages = tuple(stage for each in job.passed for stage in each.stages)
    state.out.append(
        c.StartCommit(
            job=job.spec.job,
            files=job.files(),
            counters=job.all_counters(),
            reducers=job.stage.reducers,
            stages=(*stages, *stage_infos(state, job)) if stages else (),
        )
    )


def on_commit_ended(state: State, event: e.CommitEnded) -> None:
    """The job is done with its output published, and fails where that can't be."""
    job = state.jobs.get(event.job)
    if job is None or job.state is not JobState.COMMITTING:
        return
    if event.error is None:
        end_job(state, job, JobState.DONE, None)
    else:
        fail_job(state, job, event.error)


def on_cancel(state: State, event: e.CancelRequested) -> None:
    """Stops a job; one that commits is past cancelling, one that is over stays as it is."""
    job = state.jobs.get(event.job)
    if job is not None and job.active:
        end_job(state, job, JobState.CANCELLED, event.reason)


def on_broken(state: State, event: e.JobBroken) -> None:
    """Fails a job; one that commits ends as its commit does, one that is over stays as it is."""
    job = state.jobs.get(event.job)
    if job is not None and job.active and job.state is not JobState.COMMITTING:
        fail_job(state, job, event.error)


def on_retry(state: State, event: e.RetryRequested) -> None:
    """A failed or cancelled job goes on: charges are forgiven, completed work is kept."""
    job = state.jobs.get(event.job)
    if job is None:
        return
    if event.limits != NO_LIMITS:
        job.limit(event.limits.over(job.limits))
        state.write_job(job)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        check_finished(state, job)
        return
    job.move(JobState.RUNNING, "retry requested")
    job.error, job.finished_at = None, 0.0
    job.failures = job.losses = job.worker_losses = job.rollbacks = job.parts_lost = 0
    job.errors.clear()
    for table in job.tables:
        charged = {*table.trouble, *table.charged()}
        table.forgive()
        for index in sorted(charged):
            state.write_task(table, index)
    for number in list(job.maps.heads):  # workers may have died while the job was over
        lose_boot(state, job, *job.boots[number])
    _drop_wrong_reduces(state, job)
    _read_again(state, job)
    state.active[event.job] = job
    state.write_job(job)
    error = _too_many_bad(job)
    if error is not None:
        fail_job(state, job, error)
        return
    check_finished(state, job)


def _read_again(state: State, job: LeaderJob) -> None:
    """After a failed check of the inputs: the maps that read other bytes than they should run again."""
    if job.accepted < len(job.maps) or job.stage.reads_parts:
        return  # a part between two stages that is damaged stays so
    for index in sorted({index for part in _wrong_parts(job) for index in part.maps}):
        if job.maps.state[index] == COMPLETED:
            uncomplete_map(state, job, index, "it read a damaged input")


def _drop_wrong_reduces(state: State, job: LeaderJob) -> None:
    """After a failed conservation check: reduces that disagree with the maps run again."""
    if job.accepted < len(job.maps):
        return
    if job.reduces.done and job.sums[Kind.MAP]["records_out"] != job.sums[Kind.REDUCE]["records_in"]:
        for index in range(len(job.reduces)):
            uncomplete_reduce(state, job, index, "records weren't conserved")


def lose_boot(state: State, job: LeaderJob, worker: str, boot: str) -> None:
    """The disk of a worker's boot is gone: completed maps there run again, if still needed."""
    number = job.boot_number.get((worker, boot))
    if number is None or number not in job.maps.heads:
        return
    known = state.workers.all.get(worker)
    if known is None:
        state.worker(worker, boot)  # its silence will tell
        return
    gone = boot in known.old_boots or (boot == known.boot and known.live is WorkerHealth.DEAD)
    if outputs_needed(job) and gone:  # a boot that wasn't heard of yet is a newer one
        lose_maps(state, job, job.maps.held_by(number), f"worker {worker} is gone")


def on_missing(state: State, event: e.OutputMissing) -> None:
    """A completed task's output is gone or damaged."""
    task = event.attempt.task
    job = state.jobs.get(task.job)
    if job is None or job.state in (JobState.COMMITTING, JobState.DONE):
        return
    table, index = job.table_of(task), task.index
    if table is None or table.state[index] != COMPLETED or table.winner(index) != event.attempt:
        return
    if task.kind is Kind.REDUCE:
        uncomplete_reduce(state, job, index, "its output is missing")
    else:
        uncomplete_map(state, job, index, "its output is missing")


def uncomplete_map(state: State, job: LeaderJob, index: int, why: str) -> None:
    """A completed map runs again; its result stays the accepted one until then."""
    if job.shuffled:
        lose_maps(state, job, [index], why)
        return
    job.maps.move(index, IDLE, why)
    state.write_task(job.maps, index)
    make_ready(state, job.maps, index)


def on_forget(state: State, event: e.ForgetRequested) -> None:
    """Drop a job that is over, with its intermediate files."""
    job = state.jobs.get(event.job)
    if job is None or job.active or job.state is JobState.COMMITTING:
        return
    del state.jobs[event.job]
    job.drop()
    state.out.append(c.GiveAll(order=DropJob(job=event.job)))


def on_restored(state: State, event: e.Restored) -> None:
    """The first event of a new leader that has adopted its predecessor's jobs."""
    state.beats_from = state.now
    keep_again(state)
    for worker in state.workers.all.values():
        # Whether its predecessor has told it isn't known. One whose beats can't be read can't read this.
        if worker.refused and worker.refused == other_version(state.config.version, worker.about):
            tell_refused(state, worker, worker.refused)
    for job in state.jobs.values():
        if job.active:
            for table in job.tables:
                _publish_again(state, table, job)
            _look_again(state, job)
        if job.state is JobState.COMMITTING:
            start_commit(state, job)


def on_reopened(state: State, event: e.JobReopened) -> None:
    """The job of an engine that is gone: nothing runs any more, and what is completed lies here."""
    stored = event.stored
    if stored.spec.job in state.jobs:
        return
    if stored.state in (JobState.COMMITTING, JobState.DONE):
        # How far its commit came is what the disk says, to whoever begins it again.
        stored = replace(stored, state=JobState.RUNNING)
    if not adopt(state, stored):
        on_submitted(state, e.JobSubmitted(spec=stored.spec))
        return
    job = state.jobs[stored.spec.job]
    job.adopted = False  # no attempt of before will report
    if job.active:
        job.finished_at = 0.0
    stop_tasks(state, job, "the engine that ran it is gone")
    _move_outputs(job, event.worker, event.boot)
    if job.maps.heads:
        state.worker(event.worker, event.boot)
    state.out.clear()  # the view says it all
    write_view(state, job)


def _move_outputs(job: LeaderJob, worker: str, boot: str) -> None:
    """All that is completed lies with this boot."""
    number = job.boot(worker, boot)
    for table in job.tables:
        for index, code in enumerate(table.state):
            if code != COMPLETED or table.boot[index] == number:
                continue
            if table.kind is Kind.MAP and job.shuffled:
                table.unlink(index)
                table.link(index, number)
            else:
                table.boot[index] = number


def on_store_lost(state: State, event: e.StoreLost) -> None:
    """Only what is completed is sure: everything in progress begins again, with other tickets."""
    state.beats_from = state.now
    for job in state.jobs.values():
        stop_tasks(state, job, "the store was lost")
        write_view(state, job)


def _look_again(state: State, job: LeaderJob) -> None:
    """After a takeover: what is looked at from time to time, and disks that went while nobody led."""
    for table in job.tables:
        arm_stragglers(state, job, table)
    if job.reduces.in_progress and not job.maps.done:
        arm(state, job, STALL, state.config.stall_after_s)
    for number in list(job.maps.heads):
        lose_boot(state, job, *job.boots[number])
    check_finished(state, job)


def _publish_again(state: State, table: TaskTable, job: LeaderJob) -> None:
    """What is queued: its messages may be gone with the leader that published them. Where they aren't, these
    are copies, and whoever claims first has the ticket."""
    for index in list(table.flights):
        if table.state[index] != QUEUED:
            continue
        flight = table.flights[index]
        if flight.alone or takers(state, job, table.kind) is not None:
            # It isn't for the queue, and nobody's offer: taken back soon, unless it was claimed before.
            flight.offered_to = flight.offered_to or ""
            arm_offer(state, table, index, Role.PRIMARY)
            continue
        flight.offered_to = None
        publish(state, job, table, index)


def write_view(state: State, job: LeaderJob) -> None:
    """Write all that is known of a job into a store that lost it."""
    state.write_job(job)
    if job.at:
        state.write_plan(job)
    for table in job.tables:
        for index in range(len(table)):
            code = table.state[index]
            if code != IDLE or table.ticket[index]:
                state.write_task(table, index)
            if code == COMPLETED and table.kind is Kind.MAP and job.shuffled:
                write_location(state, job, index, withdrawn=False)


def arm_stragglers(state: State, job: LeaderJob, table: TaskTable) -> None:
    """Look for stragglers from the time that most of a stage is done."""
    enough = state.config.backup_stage_done * len(table)
    if job.spec.backups and table.counts[COMPLETED] >= enough and table.counts[RUNNING]:
        arm(state, job, STRAGGLERS[table.kind], state.config.straggler_check_s)
