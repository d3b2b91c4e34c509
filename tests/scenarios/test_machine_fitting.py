"""Who may run what: jobs that not every worker has the memory or the packages for."""

from __future__ import annotations

from machine_script import Script, spec

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import MachineConfig
from mrq.core.model import JobState, Needs, Role, Status, TaskState

NUMPY = (("numpy", ("numpy",)),)


def mixed(**more: object) -> Script:
    """A small worker, a large one, and a job that only the large one may run."""
    s = Script()
    s.join("small", memory=2)
    s.join("large", memory=8)
    s.submit(memory_bytes=4, **more)
    return s


def offers(s: Script, where: list[c.Command] | None = None) -> list[tuple[str, str]]:
    return [(f"{x.message.task.kind.value}{x.message.task.index}", x.worker) for x in s.offered(where)]


def test_what_every_worker_may_run_goes_through_the_queue():
    s = Script()
    s.join("small", memory=2)
    s.join("large", memory=8)
    s.join("silent")
    s.submit(memory_bytes=2)
    assert s.published() == ["m0", "m1"]
    assert s.of(c.PublishTask)[0].message.needs == Needs(memory_bytes=2)


def test_what_only_some_may_run_is_offered_to_them_and_never_on_the_queue():
    s = mixed(reducers=1)
    assert offers(s) == [("m0", "large"), ("m1", "large")]
    s.run("m0", "m1", "r0", worker="large")
    assert offers(s, s.log)[2:] == [("r0", "large")]
    assert s.state() is JobState.COMMITTING
    assert s.published(s.log) == []


def test_offers_go_as_far_as_there_is_room_and_a_little_ahead():
    s = mixed(maps=20, reducers=0)
    assert [task for task, _ in offers(s)] == ["m0", "m1", "m2", "m3"]  # two slots, and two that wait
    first = s.claim("m0", "large")
    s.claim("m1", "large")
    assert len(offers(s, s.log)) == 4
    s.done(first)
    assert offers(s) == [("m4", "large")]


def test_a_job_that_fits_nobody_is_not_handed_out_and_goes_on_when_a_worker_joins():
    s = Script()
    s.join("small", memory=2)
    s.submit(memory_bytes=4)
    s.advance(30)
    assert s.published(s.log) == []
    assert s.view().maps.idle == 2
    s.join("large", memory=4)
    assert offers(s) == [("m0", "large"), ("m1", "large")]


def test_a_job_that_fits_nobody_holds_nobody_else_up():
    s = Script()
    s.join("small", memory=2)
    s.submit("huge", maps=5000, memory_bytes=4, priority=5)
    s.submit("other", memory_bytes=1, maps=3)
    assert s.published() == ["m0", "m1", "m2"]


def test_a_worker_without_the_package_is_not_given_what_imports_it():
    s = Script()
    s.join("with", packages=("NumPy", "x"))
    s.submit(packages=NUMPY)
    assert s.published() == ["m0", "m1"]
    s.run("m0", worker="with")
    s.join("without", packages=("x",))
    s.advance(1)
    assert ("m1", "with") in offers(s)
    assert s.task("m1").ticket == 2


def test_a_small_worker_joins_while_messages_are_on_the_queue():
    """It may get them first: declined there, they are obsolete once the tasks were taken back, uncharged."""
    s = Script()
    s.join("large", memory=8)
    s.submit(memory_bytes=4, maps=3, reducers=0)
    assert s.published() == ["m0", "m1", "m2"]
    held = s.claim("m0", "large")
    s.join("small", memory=2)
    assert s.published() == []
    s.advance(1)
    assert offers(s) == [("m1", "large"), ("m2", "large")]
    assert [s.task(task).ticket for task in ("m0", "m1", "m2")] == [1, 2, 2]
    s.done(held)
    s.run("m1", "m2", worker="large")
    assert s.state() is JobState.COMMITTING
    assert (s.view().failures, s.view().losses, s.view().worker_losses) == (0, 0, 0)


def test_the_fitting_worker_dies_between_publish_and_claim():
    s = Script()
    s.join("large", memory=8)
    s.submit(memory_bytes=4, maps=1, reducers=0)
    assert s.published() == ["m0"]
    s.workers["large"].silent = True
    s.join("small", memory=2)
    s.advance(16)
    assert s.is_("m0", TaskState.IDLE)
    assert s.published(s.log) == ["m0"]
    s.join("later", memory=4)
    assert offers(s) == [("m0", "later")]
    assert s.view().worker_losses == 0


def test_only_small_workers_are_left_and_the_offers_are_taken_back():
    s = mixed(maps=3, reducers=0)
    running = s.claim("m0", "large")
    s.workers["large"].silent = True
    s.advance(17)
    assert [s.task(f"m{n}").state for n in range(3)] == [TaskState.IDLE] * 3
    assert s.view().worker_losses == 1  # of m0, which ran
    s.advance(60)
    assert s.published(s.log) == []
    s.reboot("large")
    assert [task for task, _ in offers(s)] == ["m0", "m1", "m2"]
    s.done(running)
    assert s.is_("m0", TaskState.QUEUED)


def test_a_worker_that_comes_back_as_another_process_is_offered_anew():
    s = mixed(maps=2, reducers=0)
    s.reboot("large")
    s.advance(1)
    assert offers(s, s.log)[-2:] == [("m0", "large"), ("m1", "large")]
    assert s.task("m0").ticket == 2


def test_a_draining_worker_is_offered_nothing():
    s = mixed(maps=1, reducers=0)
    s.do(e.DrainRequested(worker="large"))
    s.advance(30)
    assert s.is_("m0", TaskState.IDLE)
    s.do(e.ReadmitRequested(worker="large"))
    assert offers(s) == [("m0", "large")]


def test_an_offer_that_nobody_claims_is_made_again_to_whoever_has_room():
    s = mixed(maps=1, reducers=0)
    s.join("second", memory=8)
    s.advance(11)
    assert offers(s, s.log) == [("m0", "large"), ("m0", "large")]
    s.claim("m0", "large")
    assert s.is_("m0", TaskState.RUNNING)


def test_a_suspect_small_worker_still_counts_as_one_that_may_claim():
    s = mixed(maps=4, reducers=0)
    s.workers["small"].silent = True
    s.advance(8)
    s.run("m0", worker="large")
    assert s.published(s.log) == []
    s.advance(8)  # it is dead: who is left may run everything
    s.run("m1", worker="large")
    assert s.published(s.log) == []  # what was offered stays so
    s.submit("k", memory_bytes=4, maps=1, reducers=0)
    assert s.published() == ["m0"]


def test_backups_go_to_workers_that_fit():
    s = Script(MachineConfig(backup_min_s=1.0))
    s.join("small", memory=2)
    s.join("large", memory=8)
    s.submit(memory_bytes=4, maps=4, reducers=0)
    for task in ("m0", "m1", "m2"):
        s.run(task, worker="large")
    s.claim("m3", "large")
    s.advance(20)
    assert Role.BACKUP not in {s.role(x.message) for x in s.offered(s.log)}
    s.join("second", memory=8)
    s.advance(3)
    assert [(x.worker, s.role(x.message)) for x in s.offered(s.log)][-1] == ("second", Role.BACKUP)


def test_an_avoided_worker_is_taken_where_no_other_fits():
    s = mixed(maps=1, reducers=0)
    s.fail(s.claim("m0", "large"), Status.DISK_FULL)
    s.advance(2)
    assert offers(s, s.log) == [("m0", "large"), ("m0", "large")]


def test_a_draining_workers_outputs_are_not_made_again_where_nobody_else_may():
    s = mixed(maps=1, reducers=2)
    s.run("m0", worker="large")
    s.do(e.DrainRequested(worker="large"))
    assert s.is_("m0", TaskState.COMPLETED)
    s.join("second", memory=8)
    s.beat("large")
    assert ("m0", "second") in offers(s)


def test_reduces_that_wait_hold_half_the_slots_of_those_that_fit():
    s = Script()
    s.join("small", memory=2, reduces=20)
    s.join("large", memory=8, reduces=2)
    s.submit(memory_bytes=4, maps=2, reducers=6)
    s.run("m0", worker="large")
    assert [task for task, _ in offers(s, s.log) if task[0] == "r"] == ["r0"]


def test_a_worker_without_a_slot_of_the_kind_counts_for_nothing():
    s = Script()
    s.join("small", memory=2, maps=0)
    s.join("large", memory=8, reduces=0)
    s.submit(memory_bytes=4, maps=1, reducers=1)
    assert s.published() == ["m0"]  # the small one takes no maps
    s.run("m0", worker="large")
    s.advance(20)
    assert s.is_("r0", TaskState.IDLE)


def test_a_takeover_publishes_nothing_that_not_everybody_may_run():
    s = mixed(maps=2, reducers=0)
    running = s.claim("m0", "large")
    s.do(e.Restored())
    assert (s.published(), offers(s)) == ([], [])
    s.done(running)  # recorded while nobody led: it still counts
    s.advance(11)
    assert offers(s) == [("m1", "large")]
    assert s.task("m1").ticket == 2


def test_a_takeover_as_the_small_worker_dies_leaves_nothing_unpublished():
    s = mixed(maps=1, reducers=0)
    s.do(e.Restored())
    s.workers["small"].silent = True
    s.do(e.WorkerLeft(worker="small", boot="small-boot1"))
    s.advance(11)
    assert (s.published(s.log), s.task("m0").state) == (["m0"], TaskState.QUEUED)


def test_nobody_there_is_nobody_who_may_not():
    """Before the first worker, messages wait as ever; if it is a small one, they are taken back."""
    s = Script()
    s.submit(memory_bytes=4)
    assert s.published() == ["m0", "m1"]
    s.join("small", memory=2)
    s.advance(1)
    assert s.view().maps.idle == 2
    assert spec(memory_bytes=4).needs == Needs(memory_bytes=4)


def held_up(**large: int) -> Script:
    """A job whose second map only `large` may run, which holds its reduce: that waits for this very map."""
    s = Script()
    s.join("small", memory=2)
    s.join("large", memory=8, **{"maps": 1, "reduces": 2, "total": 1, **large})
    s.submit(memory_bytes=4, maps=2, reducers=1)
    s.run("m0", worker="large")
    s.claim("r0", "large")
    assert s.is_("m1", TaskState.QUEUED)
    return s


def ends(s: Script) -> bool:
    """Whatever is handed out is run where it may be; does the job end?"""
    s.run("m1", "r0", worker="large")
    return s.state() is JobState.COMMITTING


def test_a_waiting_reduce_gives_its_slot_to_a_map_that_fits_no_other_worker():
    s = held_up()
    s.advance(4)
    assert not s.is_("r0", TaskState.RUNNING)
    assert ends(s)
    assert s.view().failures == 0


def test_a_waiting_reduce_gives_its_slot_also_while_other_jobs_run_maps_elsewhere():
    s = held_up()
    s.submit("other", memory_bytes=1, maps=1, reducers=0)
    s.claim("other/m0", "small")
    s.advance(4)
    assert not s.is_("r0", TaskState.RUNNING)
    assert ends(s)


def test_a_waiting_reduce_keeps_its_slot_as_long_as_a_map_that_will_end_has_the_other():
    s = held_up(maps=2, total=2)
    s.submit("other", memory_bytes=1, maps=1, reducers=0)
    other = s.claim("other/m0", "large")
    s.advance(30)
    assert s.is_("r0", TaskState.RUNNING)
    s.done(other)
    s.run("m1", worker="large")
    assert s.is_("r0", TaskState.RUNNING)


def test_a_reduce_is_taken_back_where_a_map_can_take_its_slot():
    """Of the two that wait, the later one holds a slot that is for reduces alone."""
    s = Script()
    s.join("small", memory=2)
    s.join("large", memory=8, maps=1, reduces=2, total=1)
    s.join("reducer", memory=8, maps=0, reduces=4)
    s.submit(memory_bytes=4, maps=2, reducers=2)
    s.run("m0", worker="large")
    s.claim("r0", "large")
    s.claim("r1", "reducer")
    s.advance(4)
    assert not s.is_("r0", TaskState.RUNNING)
    assert s.is_("r1", TaskState.RUNNING)


def test_a_waiting_reduce_gives_its_slot_to_a_map_that_others_have_no_room_for():
    s = Script()
    s.join("full", full="disk quota reached")
    s.join("large", maps=1, reduces=2, total=1)
    s.submit(maps=2, reducers=1)
    s.run("m0", worker="large")
    s.claim("r0", "large")
    s.advance(4)
    assert not s.is_("r0", TaskState.RUNNING)
    assert ends(s)
