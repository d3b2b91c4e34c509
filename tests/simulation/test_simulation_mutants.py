"""The simulator can fail: rules broken on purpose are caught, each within some hundred seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sim_disk
import sim_leader
from sim_checks import Broken
from sim_workers import check, world_of
from sim_world import World
from twins import MemoryLease

from mrq.core import (
    agent,
    agent_words,
    attempt_rules,
    claims,
    commands,
    events,
    failures,
    jobs,
    lifecycle,
    liveness,
    machine,
    machine_state,
    persistence,
    placement,
    scheduler,
    shuffle_rules,
    stragglers,
    task_transitions,
    wire,
)
from mrq.core.model import JobSpec, Outcome, Role, Status
from mrq.core.refs import Kind
from mrq.core.tasks import InProgress
from mrq.errors import MrqError, OperatorError
from mrq.master import outbox
from mrq.servers.memory.log import frame

SEEDS = 400

Patch = pytest.MonkeyPatch


def ended_tickets_may_report(patch: Patch) -> None:
    def claim_with(job: Any, attempt: Any) -> Any:
        keys = [claims.attempt_key(attempt.task, role) for role in Role]
        found = [(key, job["attempts"][key]) for key in keys if key in job["attempts"]]
        return next((each for each in found if each[1][claims.A_TOKEN] == attempt.token), None)

    patch.setattr(claims, "_claim_with", claim_with)


def superseded_holders_may_report(patch: Patch) -> None:
    real = claims.Claims.report

    def report(self: claims.Claims, report: Any) -> Any:
        task = report.attempt.task
        job = self.jobs.get(task.job)
        for role in Role:
            row = job and job["attempts"].get(claims.attempt_key(task, role))
            if row and row[claims.A_TICKET] == report.attempt.ticket:
                row[claims.A_TOKEN] = report.attempt.token
        return real(self, report)

    patch.setattr(claims.Claims, "report", report)


def the_leader_believes_dead_attempts(patch: Patch) -> None:
    def find(state: Any, event: Any) -> Any:
        task = event.attempt.task
        job = state.jobs.get(task.job)
        if job is None or not job.active:
            return None
        table = job.table(task.kind)
        flight = table.flights.get(task.index)
        return None if flight is None else (job, table, flight)

    patch.setattr(attempt_rules, "find", find)
    patch.setattr(InProgress, "role_of", lambda self, ticket: Role.PRIMARY)


def the_same_number_twice(patch: Patch) -> None:
    real = claims.Claims._grant

    def grant(self: claims.Claims, job: Any, attempt: str, request: Any) -> Any:
        job["numbers"].clear()
        return real(self, job, attempt, request)

    patch.setattr(claims.Claims, "_grant", grant)


def never_republish(patch: Patch) -> None:
    patch.setattr(scheduler, "_republish", lambda *args: None)


def what_no_beat_lists_killed_its_executor(patch: Patch) -> None:
    real = liveness.end_attempt
    lost = Outcome(status=Status.LOST)
    patch.setattr(liveness, "end_attempt", lambda *args: real(*args[:-1], lost))


def full_disks_are_not_looked_at(patch: Patch) -> None:
    patch.setattr(liveness, "watch", lambda state: None)


def nobody_dies(patch: Patch) -> None:
    """Either rule alone is enough: silence, or a claim of a redelivery that finds no newer beat."""
    held = claims.ClaimAnswer(answer=claims.Answer.HELD)
    patch.setattr(liveness, "die", lambda *args: None)
    patch.setattr(claims.Claims, "_contend", lambda self, job, key, request, holder: (held, None))


def results_count_twice(patch: Patch) -> None:
    real = jobs.LeaderJob.add

    def add(self: Any, kind: Any, result: Any, sign: int = 1) -> None:
        real(self, kind, result, 2 if sign > 0 else sign)

    patch.setattr(jobs.LeaderJob, "add", add)


def never_roll_back(patch: Patch) -> None:
    patch.setattr(shuffle_rules, "roll_back", lambda *args: False)
    patch.setattr(attempt_rules, "conserved", lambda *args: True)


def no_bound_on_failures(patch: Patch) -> None:
    patch.setattr(failures, "_failed", lambda *args: None)


def tickets_do_not_grow(patch: Patch) -> None:
    real = scheduler.issue

    def issue(table: Any, index: int) -> int:
        return table.ticket[index] or real(table, index)

    patch.setattr(scheduler, "issue", issue)


def a_backup_has_the_ticket_of_its_primary(patch: Patch) -> None:
    patch.setattr(stragglers, "issue", lambda table, index: table.ticket[index])


def a_worker_lists_nothing(patch: Patch) -> None:
    patch.setattr(agent, "listed", lambda item: False)


def a_worker_settles_twice(patch: Patch) -> None:
    real = agent.Agent._settle

    def settle(self: Any, item: Any) -> None:
        self._out.extend(agent_words.Ack(delivery=delivery) for delivery in item.deliveries)
        real(self, item)

    patch.setattr(agent.Agent, "_settle", settle)


def a_worker_keeps_deliveries(patch: Patch) -> None:
    real = agent.Agent._claim_answered

    def answered(self: Any, event: Any) -> None:
        if event.answer.answer is not agent.Answer.OBSOLETE:
            real(self, event)

    patch.setitem(agent._HANDLERS, agent.ClaimAnswered, answered)


def a_failed_claim_is_given_up(patch: Patch) -> None:
    real = agent._HANDLERS[agent.ClaimAnswered]

    def answered(self: Any, event: Any) -> None:
        item = self._items.get(event.token)
        if event.answer is not None:
            real(self, event)
        elif item is not None and item.phase is agent.Phase.ASKED:
            self._out.extend(agent_words.GiveBack(delivery=delivery) for delivery in item.deliveries)
            self._out.extend(agent_words.Ack(delivery=delivery) for delivery in item.deliveries)
            self._remove(item)

    patch.setitem(agent._HANDLERS, agent.ClaimAnswered, answered)


def a_commit_leaves_a_part_out(patch: Patch) -> None:
    real = jobs.LeaderJob.files
    patch.setattr(jobs.LeaderJob, "files", lambda self: real(self)[:-1])


def an_older_leader_may_write(patch: Patch) -> None:
    real = claims.Claims.write

    def write(self: claims.Claims, batch: Any) -> Any:
        job = self.jobs.get(batch.job) if batch.job else self.cluster
        if job is not None and batch.fence.epoch < job["fence"][1]:
            job["fence"][1:3] = [batch.fence.epoch, batch.fence.owner]
            job["fence"][3] = batch.fence.seq - 1
        return real(self, batch)

    patch.setattr(claims.Claims, "write", write)


def epochs_do_not_grow(patch: Patch) -> None:
    real = MemoryLease.take

    def take(self: Any, owner: str, epoch_above: int, seconds: float) -> Any:
        self._epoch = 0
        return real(self, owner, 0, seconds)

    patch.setattr(MemoryLease, "take", take)


def a_takeover_forgets_what_is_complete(patch: Patch) -> None:
    real = persistence._take_task

    def take(job: Any, table: Any, index: int, row: Any, shift: float) -> None:
        real(
            job,
            table,
            index,
            [row[0], 0 if row[1] == 3 and table.kind is Kind.REDUCE else row[1], *row[2:]],
            shift,
        )

    patch.setattr(persistence, "_take_task", take)


def a_takeover_forgets_tickets(patch: Patch) -> None:
    real = persistence._take_task

    def take(job: Any, table: Any, index: int, row: Any, shift: float) -> None:
        real(job, table, index, [*row[:2], 0, *row[3:]], shift)

    patch.setattr(persistence, "_take_task", take)


def a_lost_store_ends_no_attempts(patch: Patch) -> None:
    def lost(state: Any, event: Any) -> None:
        for job in state.jobs.values():
            lifecycle.write_view(state, job)

    patch.setitem(machine._RULES, events.StoreLost, lost)


def a_lost_store_gets_no_outputs(patch: Patch) -> None:
    real = lifecycle.write_view

    def view(state: Any, job: Any) -> None:
        before = len(state.out)
        real(state, job)
        state.out[before:] = [x for x in state.out[before:] if not isinstance(x, commands.WriteTask)]

    patch.setattr(lifecycle, "write_view", view)


def what_ran_runs_on_after_its_engine_is_gone(patch: Patch) -> None:
    real = lifecycle.on_reopened

    def reopened(state: Any, event: Any) -> None:
        with patch.context() as within:
            within.setattr(lifecycle, "stop_tasks", lambda *args: None)
            real(state, event)

    patch.setitem(machine._RULES, events.JobReopened, reopened)


def a_batch_is_answered_before_it_is_logged(patch: Patch) -> None:
    """The one before it is logged meanwhile, so that the last one is lost with the process."""
    held: dict[str, bytes] = {}

    def late(batch: Any) -> bytes:
        if batch.fence.seq == 1:
            held.pop(batch.job, None)
        before, held[batch.job] = held.get(batch.job, b""), frame(batch)
        return before

    patch.setattr(sim_leader, "frame", late)


def nobody_is_dialled_back(patch: Patch) -> None:
    real = liveness.join
    patch.setattr(
        liveness, "join", lambda state, worker, address, reached: real(state, worker, address, reached=True)
    )


def anybody_may_run_anything(patch: Patch) -> None:
    patch.setattr(agent, "fits", lambda *args: True)


def what_only_some_may_run_stays_on_the_queue(patch: Patch) -> None:
    patch.setattr(scheduler, "fit_due", lambda state: None)


def nobody_takes_what_only_some_may_run(patch: Patch) -> None:
    real = placement.takers
    patch.setattr(scheduler, "takers", lambda *args: None if real(*args) is None else ())


def an_unanswered_batch_is_given_up(patch: Patch) -> None:
    real = outbox.Outbox._ask

    def ask(self: Any, *args: Any) -> None:
        with contextlib.suppress(OperatorError):
            real(self, *args)

    patch.setattr(outbox.Outbox, "_ask", ask)


def an_unanswered_batch_is_made_anew(patch: Patch) -> None:
    real = outbox.Outbox._ask

    def ask(self: Any, store: Any, state: Any, item: Any) -> None:
        try:
            real(self, store, state, item)
        except OperatorError:
            if isinstance(item, outbox.Batch):
                again = replace(item.fence, seq=item.fence.seq + 1)
                self._items[0] = replace(item, fence=again)
                if item.job:
                    self.jobs[item.job].fence = again
                else:
                    self._cluster = again
            raise

    patch.setattr(outbox.Outbox, "_ask", ask)


def nobody_runs_alone(patch: Patch) -> None:
    patch.setattr(scheduler.alone, "is_wanted", lambda *args: False)


def others_run_beside_what_runs_alone(patch: Patch) -> None:
    patch.setattr(agent.Agent, "_may_ask", lambda self, item: self._room(item))


def a_worker_goes_on_taking_what_is_delivered(patch: Patch) -> None:
    """What is to run alone would wait for ever."""
    patch.setattr(agent.Agent, "_takes", lambda self, kind: self._has_room(kind))
    patch.setattr(
        agent.Agent,
        "_may_ask",
        lambda self, item: self._room(item) if not item.message.alone else sum(self._held.values()) == 0,
    )


def workers_count_once(patch: Patch) -> None:
    """As it was: distinct workers, so that few of them are tried for ever."""
    real = failures.count

    def count(state: Any, trouble: Any, worker: str, boot: str, *, alone: bool) -> None:
        real(state, trouble, worker, "", alone=alone)

    patch.setattr(failures, "count", count)


def a_loss_beside_others_is_poison(patch: Patch) -> None:
    real = failures.count

    def count(state: Any, trouble: Any, worker: str, boot: str, *, alone: bool) -> None:
        real(state, trouble, worker, boot, alone=True)

    patch.setattr(failures, "count", count)


def a_message_is_acked_with_its_first_report(patch: Patch) -> None:
    real = agent.Agent._settle

    def settle(self: Any, item: Any) -> None:
        for other in self._items.values():
            if other.group is item.group and other is not item:
                self._out.extend(agent_words.Ack(delivery=delivery) for delivery in other.deliveries)
                self._bereave(other)
        real(self, item)

    patch.setattr(agent.Agent, "_settle", settle)


def a_message_is_given_back_whole_for_one_of_its_tasks(patch: Patch) -> None:
    real = agent.Agent._remove

    def remove(self: Any, item: Any) -> None:
        if any(isinstance(x, agent.GiveBack) and x.delivery in item.deliveries for x in self._out):
            for other in self._items.values():
                if other.group is item.group and other is not item:
                    self._out.extend(agent_words.GiveBack(delivery=delivery) for delivery in other.deliveries)
        real(self, item)

    patch.setattr(agent.Agent, "_remove", remove)


def all_tasks_of_a_message_that_died_are_suspect(patch: Patch) -> None:
    real = attempt_rules.on_message_died

    def died(state: Any, event: Any) -> None:
        task = event.message.task
        job = state.jobs.get(task.job)
        if job is not None and job.active:
            job.table(task.kind).losses[task.index] += 1
        real(state, event)

    patch.setitem(machine._RULES, events.MessageDied, died)


def what_waits_behind_a_long_task_stays_there(patch: Patch) -> None:
    patch.setattr(agent.Agent, "_hand_back_behind", lambda self, until: None)


def short_tasks_of_two_jobs_share_a_message(patch: Patch) -> None:
    patch.setattr(task_transitions, "_travels_with", lambda state, job, table, index: 1)


def a_stage_begins_before_its_plan_is_written(patch: Patch) -> None:
    patch.setattr(machine_state.State, "write_plan", lambda self, job: None)


def a_stage_is_planned_before_the_one_before_is_complete(patch: Patch) -> None:
    real = lifecycle.settle

    def settle(state: Any, job: Any, error: Any) -> None:
        real(state, job, error)
        if job.active and job.following is not None and job.maps.in_progress:
            lifecycle._plan_following(state, job)

    patch.setattr(attempt_rules, "settle", settle)


def what_a_sampling_counts_counts(patch: Patch) -> None:
    real = jobs.LeaderJob.begin

    def begin(self: Any, at: int, plan: Any = None) -> None:
        counters = self.counters if at else {}
        real(self, at, plan)
        self.counters.update(counters)

    patch.setattr(jobs.LeaderJob, "begin", begin)


def tasks_are_found_whatever_their_stage(patch: Patch) -> None:
    patch.setattr(
        jobs.LeaderJob,
        "table_of",
        lambda self, task: table if task.index < len(table := self.table(task.kind)) else None,
    )


def a_takeover_forgets_how_far_a_job_is(patch: Patch) -> None:
    real = persistence.job_record

    def record(state: Any, job: Any) -> bytes:
        *row, _, passed = wire.unpack(real(state, job))
        return wire.pack([*row, 0, passed])

    patch.setattr(persistence, "job_record", record)


def a_takeover_forgets_what_is_passed(patch: Patch) -> None:
    real = persistence.job_record

    def record(state: Any, job: Any) -> bytes:
        *row, _ = wire.unpack(real(state, job))
        return wire.pack([*row, b""])

    patch.setattr(persistence, "job_record", record)


def a_takeover_forgets_how_often_a_job_began_again(patch: Patch) -> None:
    names = tuple(name for name in persistence._PLAIN if name != "again")
    patch.setattr(persistence, "_PLAIN", names)


def what_begins_again_keeps_its_numbers(patch: Patch) -> None:
    patch.setattr(JobSpec, "number_of", lambda self, at, again: self.stages[at].number)


def what_was_given_up_counts(patch: Patch) -> None:
    patch.setattr(jobs.LeaderJob, "forget_passed", lambda self: None if self.tables else self.take_passed(()))


def a_job_begins_again_for_ever(patch: Patch) -> None:
    real = lifecycle.begin_again

    def again(state: Any, job: Any, why: str) -> None:
        job.parts_lost = 0
        real(state, job, why)

    patch.setattr(lifecycle, "begin_again", again)
    patch.setattr(attempt_rules, "begin_again", again)


def a_job_never_begins_again(patch: Patch) -> None:
    real = lifecycle.begin_again

    def again(state: Any, job: Any, why: str) -> None:
        job.parts_lost = state.config.parts_lost_max
        real(state, job, why)

    patch.setattr(lifecycle, "begin_again", again)
    patch.setattr(attempt_rules, "begin_again", again)


def what_is_misread_counts(patch: Patch) -> None:
    patch.setattr(lifecycle, "_wrong_parts", lambda job: [])


def what_is_lost_is_tried_for_ever(patch: Patch) -> None:
    patch.setattr(attempt_rules, "_is_lost", lambda *args: False)


def parts_go_before_their_readers_are_complete(patch: Patch) -> None:
    def before(self: sim_disk.Disk, job: str, number: int) -> None:
        begin = f"{job}/stages/"
        for path in [p for p in self.files if p.startswith(begin)]:
            if int(path[len(begin) :].split("/")[0]) <= number and path.endswith("part-0"):
                del self.files[path]

    patch.setattr(sim_disk.Disk, "_remove_before", before)


def a_stage_is_planned_before_its_parts_are_kept(patch: Patch) -> None:
    real = sim_disk.Disk.planned

    def planned(self: sim_disk.Disk, spec: Any, command: Any) -> Any:
        files = dict(self.files)
        told = real(self, spec, command)
        self.files = files
        return told

    patch.setattr(sim_disk.Disk, "planned", planned)


def a_stage_is_planned_by_other_parts_than_the_winners(patch: Patch) -> None:
    patch.setattr(jobs.LeaderJob, "parts", lambda self: tuple(reversed(self.winners_files())))


MUTANTS: list[Callable[[Patch], None]] = [
    ended_tickets_may_report,
    superseded_holders_may_report,
    the_leader_believes_dead_attempts,
    the_same_number_twice,
    never_republish,
    what_no_beat_lists_killed_its_executor,
    full_disks_are_not_looked_at,
    nobody_dies,
    results_count_twice,
    never_roll_back,
    no_bound_on_failures,
    tickets_do_not_grow,
    a_backup_has_the_ticket_of_its_primary,
    a_worker_lists_nothing,
    a_worker_settles_twice,
    a_worker_keeps_deliveries,
    a_failed_claim_is_given_up,
    a_commit_leaves_a_part_out,
    an_older_leader_may_write,
    epochs_do_not_grow,
    a_takeover_forgets_what_is_complete,
    a_takeover_forgets_tickets,
    a_lost_store_ends_no_attempts,
    a_lost_store_gets_no_outputs,
    what_ran_runs_on_after_its_engine_is_gone,
    a_batch_is_answered_before_it_is_logged,
    nobody_is_dialled_back,
    anybody_may_run_anything,
    what_only_some_may_run_stays_on_the_queue,
    nobody_takes_what_only_some_may_run,
    an_unanswered_batch_is_given_up,
    an_unanswered_batch_is_made_anew,
    a_message_is_acked_with_its_first_report,
    a_message_is_given_back_whole_for_one_of_its_tasks,
    all_tasks_of_a_message_that_died_are_suspect,
    what_waits_behind_a_long_task_stays_there,
    short_tasks_of_two_jobs_share_a_message,
    a_stage_begins_before_its_plan_is_written,
    a_stage_is_planned_before_the_one_before_is_complete,
    what_a_sampling_counts_counts,
    tasks_are_found_whatever_their_stage,
    a_takeover_forgets_how_far_a_job_is,
]

#: Those that only workers' deaths show, or parts that are lost between stages, by the kind of world.
OF_KINDS: list[tuple[str, Callable[[Patch], None]]] = [
    ("deadly", nobody_runs_alone),
    ("deadly", others_run_beside_what_runs_alone),
    ("deadly", a_worker_goes_on_taking_what_is_delivered),
    ("deadly", workers_count_once),
    ("deadly", a_loss_beside_others_is_poison),
    ("chain", a_stage_is_planned_by_other_parts_than_the_winners),
    ("chain", a_stage_is_planned_before_its_parts_are_kept),
    ("chain", parts_go_before_their_readers_are_complete),
    ("chain", what_is_lost_is_tried_for_ever),
    ("chain", what_is_misread_counts),
    ("chain", a_job_never_begins_again),
    ("chain", a_job_begins_again_for_ever),
    ("chain", what_was_given_up_counts),
    ("chain", what_begins_again_keeps_its_numbers),
    ("chain", a_takeover_forgets_how_often_a_job_began_again),
    ("chain", a_takeover_forgets_what_is_passed),
]

#: Where to begin with those that few seeds notice: none of the first 400 does.
FIRST = {
    what_only_some_may_run_stays_on_the_queue: 800,
    a_takeover_forgets_what_is_complete: 400,
}


#: One of its seeds that notices, of those mutants that few seeds notice. It is tried first, and the others
#: only where it doesn't notice any more: which one does changes with the simulator.
NOTICES = {
    superseded_holders_may_report: 309,
    the_leader_believes_dead_attempts: 11,
    what_no_beat_lists_killed_its_executor: 213,
    full_disks_are_not_looked_at: 307,
    nobody_dies: 349,
    an_older_leader_may_write: 127,
    a_takeover_forgets_tickets: 34,
    anybody_may_run_anything: 151,
    what_only_some_may_run_stays_on_the_queue: 1024,
    nobody_runs_alone: 16,
    a_takeover_forgets_what_is_complete: 415,
    short_tasks_of_two_jobs_share_a_message: 102,
    tasks_are_found_whatever_their_stage: 229,
    a_takeover_forgets_how_far_a_job_is: 137,
}


def seeds_for(mutant: Callable[[Patch], None], seeds: range) -> list[int]:
    """All of the seeds, beginning with the one that is known to notice the mutant."""
    known = NOTICES.get(mutant, seeds[0])
    assert known in seeds
    return [known, *(seed for seed in seeds if seed != known)]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_rule_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    first = FIRST.get(mutant, 0)
    for seed in seeds_for(mutant, range(first, first + SEEDS)):
        try:
            World(seed).run()
        except (Broken, MrqError, AssertionError, KeyError, ValueError):
            return
    pytest.fail(f"{SEEDS} seeds didn't notice")


@pytest.mark.timeout(400)  # how many seeds it takes isn't a matter of time
@pytest.mark.parametrize(("kind", "mutant"), OF_KINDS, ids=lambda each: getattr(each, "__name__", each))
def test_a_broken_rule_of_a_kind_of_world_is_caught(
    kind: str, mutant: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    for seed in seeds_for(mutant, range(SEEDS // 4)):
        try:
            check(kind, world_of(kind, seed).run())
        except (Broken, MrqError, AssertionError, KeyError, ValueError):
            return
    pytest.fail(f"{SEEDS // 4} seeds didn't notice")
