"""The leader's machine: outputs that are lost, unreadable or different, and what must be conserved."""

from __future__ import annotations

import pytest
from machine_script import Claim, Script, known

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.digest import MASK, consumed
from mrq.core.machine import MachineConfig
from mrq.core.machine_config import ReduceStart
from mrq.core.model import JobState, Status, TaskState


def mapped(
    maps: int = 3, reducers: int = 4, *, config: MachineConfig | None = None, **more: object
) -> Script:
    """All maps are done, on w1; the reduces are published."""
    s = Script(config)
    s.join("w1", "w2", "w3", maps=4, reduces=4)
    s.submit(maps=maps, reducers=reducers, **more)
    s.run(*(f"m{i}" for i in range(maps)), worker="w1")
    return s


def fetch(s: Script, claim: Claim, index: int, reason: str, ticket: int | None = None) -> None:
    """The reduce couldn't read one map's output."""
    if ticket is None:
        ticket = s.task(f"m{index}").ticket
    s.fail(claim, Status.FETCH_FAILED, fetch=[(index, ticket, reason)])


def withdrawn(s: Script) -> list[int]:
    return [x.location.map_index for x in s.of(c.WriteLocation) if x.withdrawn]


@pytest.mark.parametrize("reason", ["not_found", "corrupt"])
def test_an_output_that_is_gone_or_corrupt_is_made_again_at_once(reason):
    s = mapped()
    fetch(s, s.claim("r0", "w2"), 1, reason)
    assert withdrawn(s) == [1]
    assert s.published() == ["m1"]
    r0 = s.task("r0")
    assert (r0.state, r0.failures, r0.losses) == (TaskState.IDLE, 0, 0)
    s.run("m1", worker="w2")
    assert [x.location.worker for x in s.of(c.WriteLocation)] == ["w2"]


def test_an_unreachable_output_is_made_again_after_three_distinct_reducers():
    s = mapped(reducers=6)
    for n, reduce in enumerate(("r0", "r1", "r2")):
        assert s.is_("m1", TaskState.COMPLETED), n
        fetch(s, s.claim(reduce, "w2"), 1, "unreachable")
    assert withdrawn(s) == [1]


def test_the_same_reducer_saying_so_again_is_one_voice_but_not_for_ever():
    s = mapped(reducers=6)
    for _ in range(8):
        fetch(s, s.claim("r0", "w2"), 1, "unreachable")
        assert s.is_("m1", TaskState.COMPLETED)
        s.advance(40)
    fetch(s, s.claim("r0", "w2"), 1, "unreachable")
    assert withdrawn(s) == [1]


def test_half_of_few_reducers_are_enough():
    s = mapped(reducers=2)
    fetch(s, s.claim("r0", "w2"), 1, "unreachable")
    assert withdrawn(s) == [1]


def test_a_fetch_failure_of_an_output_that_was_replaced_already_is_stale():
    s = mapped()
    claims = [s.claim(f"r{i}", "w2") for i in (0, 1)]
    old = s.task("m1").ticket
    fetch(s, claims[0], 1, "not_found", old)
    s.run("m1", worker="w3")
    fetch(s, claims[1], 1, "not_found", old)
    assert withdrawn(s) == []
    assert s.is_("m1", TaskState.COMPLETED)
    assert s.is_("r1", TaskState.IDLE)


def test_after_four_reruns_for_failed_fetches_the_job_fails_by_name():
    s = mapped()
    for _ in range(4):
        fetch(s, s.claim("r0", "w2"), 1, "corrupt")
        s.run("m1", worker="w1")
        s.advance(40)
    assert s.state() is JobState.RUNNING
    fetch(s, s.claim("r0", "w2"), 1, "corrupt")
    assert s.error().startswith("the output of m-00001 couldn't be fetched (corrupt)")


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_map_with_values_that_cannot_be_sorted_runs_again_carefully_and_every_reduce_with_it(allowed):
    s = mapped(reducers=4, skip_bad_records=allowed)
    s.run("r0", worker="w3")
    running = s.claim("r1", "w3")
    fetch(s, s.claim("r2", "w2"), 1, "unordered")
    assert withdrawn(s) == [1]
    assert s.published() == ["m1", "r0", "r1", "r2", "r3"]
    assert s.killed() == [running.attempt.token]
    claim = s.claim("m1", "w2")
    assert (claim.message.careful, claim.message.strict_order) == (True, True)
    if not allowed:
        s.fail(claim)
        assert (s.task("m1").failures, s.state()) == (1, JobState.RUNNING)
        return
    s.done(claim, digest=7)
    s.advance(40)
    for name in ("r0", "r1", "r2", "r3"):
        claim = s.claim(name, "w3")
        assert (claim.message.careful, claim.message.strict_order) == (False, True)
        s.done(claim)
    assert s.state() is JobState.COMMITTING


def test_a_reduce_that_read_an_output_that_was_sent_back_runs_again():
    """Its worker had not heard of the withdrawal yet, and the older output still lay there."""
    s = mapped(reducers=2, skip_bad_records=1)
    fetch(s, s.claim("r0", "w2"), 1, "unordered")
    s.done(s.claim("m1", "w2"), digest=7)
    late = s.claim("r1", "w3")
    before = sum(consumed(index, 1000 + index) for index in range(3)) & MASK
    s.done(late, digest=before)
    assert s.state() is JobState.RUNNING
    assert s.is_("r1", TaskState.IDLE)
    s.advance(40)
    s.run("r0", "r1", worker="w3")
    assert s.state() is JobState.COMMITTING


def test_maps_that_leave_out_records_now_dont_make_a_job_nondeterministic():
    s = mapped(maps=9, reducers=1, skip_bad_records=9)
    for index in range(9):
        fetch(s, s.claim("r0", "w2"), index, "unordered")
        s.done(s.claim(f"m{index}", "w3"), digest=700 + index)
        s.advance(40)
    s.run("r0", worker="w2")
    assert s.state() is JobState.COMMITTING


def test_a_map_that_gives_such_values_only_now_and_then_fails_the_job_by_name():
    s = mapped(reducers=1)
    for _ in range(5):
        fetch(s, s.claim("r0", "w2"), 1, "unordered")
        if s.state() is JobState.FAILED:
            break
        s.run("m1", worker="w1")
        s.advance(40)
    assert s.error().startswith("m-00001 gave values that sort_values can't order, and none when it ran")


def test_an_unreachable_link_makes_the_reduce_go_to_another_worker():
    s = mapped(reducers=6)
    fetch(s, s.claim("r0", "w2"), 1, "unreachable")
    out = s.advance(2)
    assert [o.worker != "w2" for o in s.offered(out)] == [True]


def test_embedded_a_rerun_map_holds_back_the_queued_reduces():
    s = mapped(reducers=4, config=MachineConfig.for_one_worker())
    fetch(s, s.claim("r0", "w2"), 1, "not_found")
    assert [s.task(f"r{i}").state for i in range(4)] == [TaskState.IDLE] * 4
    s.run("m1", worker="w1")
    assert s.published(s.advance(1)) == ["r0"] or s.view().reduces.queued == 4


# A worker dies.


def test_a_dead_workers_needed_maps_and_running_tasks_go_back_to_idle():
    s = mapped()
    running = s.claim("r0", "w1")
    s.claim("r1", "w2")
    s.workers["w1"].silent = True
    out = s.advance(16)
    assert [x.location.map_index for x in s.of(c.WriteLocation, out) if x.withdrawn] == [0, 1, 2]
    assert {s.task(f"m{i}").state for i in range(3)} == {TaskState.QUEUED}
    assert {s.task(f"m{i}").ticket for i in range(3)} == {2}
    assert s.is_("r0", TaskState.IDLE)
    assert s.is_("r1", TaskState.RUNNING)
    assert s.view().worker_losses == 1
    assert s.done(running) == []


def test_completed_reduces_of_a_dead_worker_stay():
    s = mapped(reducers=2)
    s.run("r0", worker="w3")
    s.workers["w3"].silent = True
    s.advance(16)
    assert s.is_("r0", TaskState.COMPLETED)


def test_maps_of_a_dead_worker_stay_when_every_reduce_is_done():
    s = mapped(reducers=1)
    s.run("r0", worker="w2")
    s.workers["w1"].silent = True
    s.advance(16)
    assert s.state() is JobState.COMMITTING
    assert s.view().maps.completed == 3


def test_maps_of_a_map_only_job_stay_when_their_worker_dies():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=3, reducers=0)
    s.run("m0", "m1", worker="w1")
    s.workers["w1"].silent = True
    s.advance(16)
    assert s.view().maps.completed == 2


def test_a_job_finishes_though_a_rerun_map_was_not_ready_again():
    # Its only consumer had read the old output already.
    s = mapped(reducers=1)
    r0 = s.claim("r0", "w2")
    s.workers["w1"].silent = True
    s.advance(16)
    again = s.claim("m0", "w2")
    s.done(r0)
    assert s.state() is JobState.COMMITTING
    assert s.killed() == [again.attempt.token]


def test_a_map_that_reported_from_a_dead_boot_does_not_count():
    s = Script()
    s.join("w1", "w2")
    s.submit()
    late = s.claim("m0", "w1", tell=False)
    s.reboot("w1")
    s.done(late)
    assert s.task("m0").state is TaskState.QUEUED  # with a new ticket
    assert s.task("m0").ticket == 2


# Digests.


def rerun(s: Script, index: int, digest: int, worker: str = "w2") -> None:
    """Lose a map's output and make it again, coming out as `digest`."""
    s.do(e.OutputMissing(attempt=s.winner(f"m{index}")))
    s.done(s.claim(f"m{index}", worker), digest=digest)


def test_a_rerun_with_the_same_digest_disturbs_no_reduce():
    s = mapped()
    s.run("r0", worker="w2")
    running = s.claim("r1", "w2")
    rerun(s, 1, 1001)
    assert s.is_("r0", TaskState.COMPLETED)
    s.done(running)
    assert s.is_("r1", TaskState.COMPLETED)


def test_a_rerun_with_another_digest_puts_every_consumer_back_completed_ones_too():
    s = mapped()
    s.done(s.claim("r0", "w2"), counters={"n": 1})
    running = s.claim("r1", "w2")
    rerun(s, 1, 777)
    for reduce in ("r0", "r1"):
        assert s.task(reduce).ticket == 2
    assert running.attempt.token in s.killed()
    assert s.view().counters == {}
    assert s.view().reduces.records_out == 0
    assert s.done(running) == []
    s.run("r0", "r1", "r2", "r3", worker="w3")
    assert s.state() is JobState.COMMITTING


def test_a_queued_reduce_is_put_back_too_for_it_may_have_been_claimed():
    s = mapped(reducers=1)
    early = s.claim("r0", "w2", tell=False)
    s_sum = s.result(early).digest
    rerun(s, 1, 777)
    s.done(early, digest=s_sum)  # consumed the old output; its ticket has ended
    assert s.state() is JobState.RUNNING


def test_a_different_digest_before_any_reduce_ran_is_no_rollback():
    s = Script(MachineConfig.for_one_worker())
    s.join("w1", "w2")
    s.submit(maps=2, reducers=1)
    s.run("m0", worker="w1")
    for digest in range(10):
        rerun(s, 0, digest)
    assert s.state() is JobState.RUNNING


def test_four_rollbacks_then_the_job_is_called_nondeterministic():
    s = mapped()
    for digest in range(4):
        s.run("r0", worker="w3")
        rerun(s, 1, digest)
        assert s.state() is JobState.RUNNING
    s.run("r0", worker="w3")
    rerun(s, 1, 99)
    assert s.error().startswith("the job is nondeterministic: m-00001")


def test_while_committing_nothing_goes_back():
    s = mapped(reducers=1)
    s.run("r0", worker="w2")
    assert s.state() is JobState.COMMITTING
    before = known(s.machine)
    assert s.do(e.OutputMissing(attempt=s.winner("m0"))) == []
    assert s.do(e.OutputMissing(attempt=s.winner("r0"))) == []
    assert known(s.machine) == before
    for worker in s.workers.values():
        worker.silent = True
    s.advance(30)
    assert (s.view().maps.completed, s.view().reduces.completed) == (3, 1)


# Conservation.


def test_a_reduce_that_consumed_something_else_fails_the_job():
    s = mapped()
    s.done(s.claim("r0", "w2"), digest=5)
    assert s.error().startswith("conservation: r-00000")
    assert not s.of(c.StartCommit, s.log)


def test_a_reduce_that_finished_before_every_map_fails_the_job():
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=2, reducers=2)
    s.run("m0", worker="w1")
    s.done(s.claim("r0", "w2"))
    assert s.error().startswith("conservation")


def test_records_emitted_must_be_records_consumed():
    s = mapped(reducers=1)
    s.done(s.claim("r0", "w2"), records_in=17)
    assert s.error().startswith("conservation: maps emitted 18 records and reduces consumed 17")


# Missing outputs.


def test_a_rebooted_worker_has_lost_its_outputs():
    s = Script()
    s.join("w1")
    s.submit(maps=2)
    s.run("m0", worker="w1")
    s.reboot("w1")
    assert s.task("m0").ticket == 2
    assert s.view().maps.records_out == 6
    s.run("m0", worker="w1")
    assert s.view().maps.records_out == 6  # counted once


def test_a_missing_reduce_output_runs_the_reduce_again():
    s = mapped(reducers=2)
    s.run("r0", worker="w2")
    s.do(e.OutputMissing(attempt=s.winner("r0")))
    assert s.published() == ["r0"]
    assert s.view().reduces.records_in == 0


def test_missing_output_of_another_attempt_is_stale():
    s = mapped()
    old = s.winner("m0")
    rerun(s, 0, 1000)
    assert s.do(e.OutputMissing(attempt=old)) == []


# Slots.


def test_maps_that_must_run_again_take_a_slot_from_a_waiting_reduce():
    # Two executors shared by maps and reduces, all held by reduces that wait for a lost map.
    s = Script()
    s.join("w1", maps=2, reduces=2, total=2)
    s.join("w2", maps=1, reduces=1, total=1)
    s.submit(maps=2, reducers=2)
    s.run("m0", worker="w2")
    s.run("m1", worker="w1")
    claims = [s.claim("r0", "w1"), s.claim("r1", "w1")]
    s.workers["w2"].silent = True
    out = s.advance(25)
    killed = s.killed(out)
    assert [t in [x.attempt.token for x in claims] for t in killed] == [True]
    s.run("m0", worker="w1")
    assert s.view().maps.completed == 2


@pytest.mark.parametrize("max_running", [None, 2])
def test_a_reduce_that_holds_the_only_slot_gives_it_to_a_map_that_runs_again(max_running):
    """Reduces that begin after the maps, too, may have to wait for one; a queued map is within the bound on
    running tasks, and yet nobody can take it."""
    s = Script(MachineConfig(quarantines=False, reduce_start=ReduceStart.AFTER_MAPS))
    s.join("w1", maps=1, reduces=1, total=1)
    s.submit(maps=2, reducers=2, max_running=max_running)
    s.run("m0", "m1", worker="w1")
    first, waits = s.claim("r0", "w1"), s.claim("r1", "w1")  # the second ahead of its slot
    fetch(s, first, 1, "not_found")
    s.advance(4)
    assert s.is_("m1", TaskState.QUEUED)
    assert waits.attempt.token in s.killed(s.log)
    s.run("m1", "r1", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING
