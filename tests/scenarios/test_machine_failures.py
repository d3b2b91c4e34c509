"""The leader's machine: what is charged, retries, bad records, full disks."""

from __future__ import annotations

from machine_script import Script

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import MachineConfig
from mrq.core.model import JobState, Role, StagedFile, Status, TaskState


def running(maps: int = 1, *, config: MachineConfig | None = None, **more: object) -> Script:
    s = Script(config)
    s.join("w1", "w2", "w3")
    s.submit(maps=maps, **more)
    return s


def attempt(s: Script, task: str, worker: str, status: Status = Status.FAILED, **more: object) -> None:
    """Claim, end with a status, and wait out the backoff."""
    s.fail(s.claim(task, worker), status, **more)
    s.advance(40)


def test_a_failure_goes_back_to_idle_without_a_ticket_and_with_a_backoff():
    s = running()
    s.fail(s.claim("m0", "w1"))
    t = s.task("m0")
    assert (t.state, t.ticket, t.failures) == (TaskState.IDLE, 1, 1)
    assert [(w.primary, w.backup) for w in s.of(c.WriteTask)] == [(0, 0)]
    assert s.published() == []
    assert s.published(s.advance(0.2)) == []  # at least half of 0.5 s
    assert s.published(s.advance(0.4)) == ["m0"]


def test_the_backoff_doubles_and_is_the_same_in_every_run():
    def waits() -> list[float]:
        s, found = running(max_failures=9), []
        for _ in range(4):
            s.fail(s.claim("m0", "w1"))
            begun = s.now
            while not s.is_("m0", TaskState.QUEUED):
                s.advance(0.05)
            found.append(round(s.now - begun, 2))
        return found

    first = waits()
    assert first == waits()
    for i, wait in enumerate(first):
        assert 0.25 * 2**i <= wait <= 0.5 * 2**i + 0.05


def test_four_different_failures_fail_the_job_naming_task_and_record():
    s = running()
    for n in range(4):
        attempt(s, "m0", "w1", message=f"bad {n}", path="in.txt", offset=42)
    assert s.state() is JobState.FAILED
    assert s.error() == "m-00000 failed 4 times: ValueError: bad 3 (in.txt, offset 42)"
    assert [x.error for x in s.of(c.EndJob, s.log)] == [s.error()]


def test_the_same_error_at_the_same_record_twice_is_enough():
    s = running()
    for _ in range(2):
        attempt(s, "m0", "w1", message="bad", path="in.txt", offset=42)
    assert "failed twice with the same error at the same record" in s.error()


def test_the_same_error_at_another_record_is_another_error():
    s = running()
    attempt(s, "m0", "w1", message="bad", path="in.txt", offset=42)
    attempt(s, "m0", "w1", message="bad", path="in.txt", offset=43)
    assert s.state() is JobState.RUNNING


def test_with_max_failures_1_the_first_failure_fails_the_job():
    s = running(max_failures=1, maps=2)
    other = s.claim("m1", "w2")
    s.fail(s.claim("m0", "w1"), message="bad")
    assert s.error() == "m-00000 failed once: ValueError: bad"
    assert s.killed() == [other.attempt.token]


def test_silence_is_charged_as_a_failure():
    s = running(max_failures=2)
    attempt(s, "m0", "w1", Status.TIMED_OUT)
    assert s.task("m0").failures == 1
    attempt(s, "m0", "w1", Status.TIMED_OUT)
    assert s.state() is JobState.FAILED


def test_a_lost_executor_charges_losses_and_three_are_poison():
    s = running(max_failures=1)
    for n in range(3):
        assert s.state() is JobState.RUNNING
        assert (s.task("m0").failures, s.task("m0").losses) == (0, n)
        attempt(s, "m0", "w1", Status.LOST)
    assert s.error().startswith("m-00000 killed its executor 3 times")


def test_what_could_not_be_begun_says_so():
    """A bundle that isn't what its name says has killed no executor."""
    s = running(max_failures=1)
    for _ in range(3):
        attempt(s, "m0", "w1", Status.LOST, type="CorruptFileError", message="the code isn't what it says")
    assert s.error() == "m-00000 couldn't be begun 3 times: CorruptFileError: the code isn't what it says"


def test_a_loss_before_an_executor_had_started_charges_nothing():
    s = running()
    for _ in range(5):
        attempt(s, "m0", "w1", Status.LOST, started=False)
    assert (s.state(), s.task("m0").losses) == (JobState.RUNNING, 0)


def test_what_charges_nothing_still_ends():
    s = running(config=MachineConfig(uncharged_max=5))
    for _ in range(5):
        attempt(s, "m0", "w1", Status.HANDED_BACK)
    assert "ended 5 times without a result, the last time as handed_back" in s.error()


def test_handing_back_and_being_superseded_charge_nothing_and_go_on_at_once():
    s = running()
    for status in (Status.HANDED_BACK, Status.SUPERSEDED):
        s.fail(s.claim("m0", "w1"), status)
        assert s.published() == ["m0"]
    t = s.task("m0")
    assert (t.failures, t.losses) == (0, 0)
    assert not s.view().errors, "they are no trouble to be shown"


def test_a_full_disk_is_tried_on_another_worker():
    s = running()
    s.fail(s.claim("m0", "w1"), Status.DISK_FULL)
    (offer,) = s.offered(s.advance(1))
    assert offer.worker != "w1"
    assert (s.task("m0").failures, s.task("m0").losses) == (0, 0)


def test_a_full_disk_everywhere_fails_the_job_by_name():
    s = running(maps=2)
    for worker in ("w1", "w2", "w3"):
        assert s.state() is JobState.RUNNING
        attempt(s, "m0", worker, Status.DISK_FULL, message="/tmp: needed 5, had 3")
    assert "m-00000 found the disk full 3 times" in s.error()
    assert "/tmp: needed 5, had 3" in s.error()


def test_embedded_a_full_disk_fails_after_three_tries_in_a_row():
    s = Script(MachineConfig.for_one_worker())
    s.join("w1")
    s.submit(maps=2)
    attempt(s, "m0", "w1", Status.DISK_FULL)
    attempt(s, "m0", "w1", Status.DISK_FULL)
    s.run("m1", worker="w1")  # progress: files of others may have gone
    attempt(s, "m0", "w1", Status.DISK_FULL)
    attempt(s, "m0", "w1", Status.DISK_FULL)
    assert s.state() is JobState.RUNNING
    attempt(s, "m0", "w1", Status.DISK_FULL)
    assert s.state() is JobState.FAILED


# Bad records.


def test_skip_bad_records_makes_the_second_attempt_careful_and_charges_nothing():
    s = running(max_failures=1, skip_bad_records=5)
    first = s.claim("m0", "w1")
    assert not first.message.careful
    s.fail(first)
    assert s.published() == ["m0"]  # at once
    second = s.claim("m0", "w1")
    assert second.message.careful
    assert s.task("m0").failures == 0
    s.done(second, bad_records=5)
    assert s.is_("m0", TaskState.COMPLETED)


def test_a_careful_attempt_that_fails_is_charged():
    s = running(max_failures=1, skip_bad_records=5)
    s.fail(s.claim("m0", "w1"))
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.FAILED


def test_more_bad_records_than_allowed_fail_the_job_by_name():
    s = running(maps=2, skip_bad_records=5)
    s.done(s.claim("m0", "w1"), bad_records=3)
    assert s.state() is JobState.RUNNING
    s.done(s.claim("m1", "w1"), bad_records=3)
    assert s.error().startswith("6 records are bad, more than the 5")


def test_bad_record_files_of_maps_are_committed_before_the_parts():
    s = running(maps=2, skip_bad_records=5)
    bad = StagedFile(name="attempts/x/m-00001.jsonl", final="_bad/m-00001.jsonl", records=1, bytes=9, crc32=1)
    s.run("m0", worker="w1")
    s.done(s.claim("m1", "w1"), bad_records=1, files=(bad,))
    s.run("r0", worker="w2")
    (commit,) = s.of(c.StartCommit)
    assert [f.final for f in commit.files] == ["_bad/m-00001.jsonl", "part-00000"]


# Retry.


def test_a_failed_job_goes_on_with_charges_forgiven_and_completed_work_kept():
    s = running(maps=2, max_failures=1)
    s.run("m1", worker="w2")
    s.fail(s.claim("m0", "w1"))
    assert s.state() is JobState.FAILED
    s.do(e.RetryRequested(job="j"))
    assert s.published() == ["m0", "r0"]
    assert (s.task("m0").failures, s.view().failures, s.view().error) == (0, 0, None)
    assert s.task("m0").ticket == 2
    s.run("m0", "r0", worker="w1")
    assert s.state() is JobState.COMMITTING


def test_after_a_retry_maps_whose_worker_died_meanwhile_run_again():
    s = running(maps=2, max_failures=1)
    s.run("m1", worker="w2")
    s.fail(s.claim("m0", "w1"))
    s.workers["w2"].silent = True
    s.advance(20)
    assert s.is_("m1", TaskState.COMPLETED)  # nobody needs it
    s.do(e.RetryRequested(job="j"))
    assert sorted(s.published()) == ["m0", "m1"]


def test_retry_of_a_running_or_done_job_changes_nothing():
    s = running()
    assert s.do(e.RetryRequested(job="j")) == []
    s.run("m0", "r0", worker="w1")
    s.do(e.CommitEnded(job="j"))
    assert s.do(e.RetryRequested(job="j")) == []


# Backups.


def near_the_end(config: MachineConfig | None = None, **more: object) -> tuple[Script, object]:
    """Four of five maps took a second; m4 hangs on w1."""
    s = running(maps=5, config=config, **more)
    slow = s.claim("m4", "w1")
    for i in range(4):
        claim = s.claim(f"m{i}", "w2")
        s.advance(1)
        s.done(claim)
    return s, slow


def test_a_straggler_gets_a_backup_on_another_worker():
    s, _ = near_the_end()
    (offer,) = s.offered(s.advance(5))
    m = offer.message
    assert offer.worker in ("w2", "w3")
    assert (m.ticket, m.not_worker) == (2, "w1")
    writes = [w for w in s.of(c.WriteTask) if w.backup]
    assert [(w.task.index, w.primary, w.backup) for w in writes] == [(4, 1, 2)]


def test_no_backup_before_most_of_the_stage_is_done():
    s = running(maps=8)
    s.claim("m7", "w1")
    s.run("m0", "m1", worker="w2")
    assert s.offered(s.advance(60)) == []


def test_backups_false_turns_them_off():
    s, _ = near_the_end(backups=False)
    assert s.offered(s.advance(60)) == []


def test_a_backup_that_wins_ends_the_primary():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.done(backup)
    assert s.killed() == [slow.attempt.token]
    assert s.winner("m4") == backup.attempt
    before = s.view().maps.records_out
    assert s.done(slow) == []
    assert s.view().maps.records_out == before


def test_a_primary_that_wins_ends_the_backup():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.done(slow)
    assert s.killed() == [backup.attempt.token]
    assert s.winner("m4") == slow.attempt


def test_a_backup_claimed_after_the_primary_won_is_killed():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP, tell=False)
    s.done(slow)
    s.tell(backup)
    assert s.killed() == [backup.attempt.token]


def test_a_dead_primary_beside_a_healthy_backup_ends_with_its_ticket():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.fail(slow, Status.LOST)
    (write,) = s.of(c.WriteTask)
    assert (write.primary, write.backup) == (0, 2)
    assert s.task("m4").losses == 1
    assert s.done(slow) == []
    s.done(backup)
    assert s.is_("m4", TaskState.COMPLETED)


def test_a_lost_backup_leaves_the_primary_alone_and_its_ticket_is_not_used_again():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.fail(backup, Status.LOST)
    assert s.is_("m4", TaskState.RUNNING)
    (offer,) = s.offered(s.advance(3))
    assert offer.message.ticket == 3
    assert s.done(backup) == []
    s.done(slow)
    assert s.is_("m4", TaskState.COMPLETED)


def test_when_both_roles_are_gone_the_task_goes_back_to_idle():
    s, slow = near_the_end()
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.fail(slow, Status.LOST)
    s.fail(backup, Status.LOST)
    assert (s.task("m4").state, s.task("m4").ticket) == (TaskState.IDLE, 2)
    assert [(w.primary, w.backup) for w in s.of(c.WriteTask)] == [(0, 0)]


def test_an_offered_backup_that_nobody_claims_is_withdrawn():
    s, _ = near_the_end()
    s.advance(5)
    out = s.advance(11)
    writes = [(w.task.index, w.backup) for w in s.of(c.WriteTask, out)]
    assert (4, 0) in writes


def test_at_most_a_share_of_the_running_tasks_has_a_backup():
    s = Script()
    s.join("w1", "w2", maps=30)
    s.submit(maps=40)
    for i in range(10):
        s.claim(f"m{30 + i}", "w1")
    for i in range(30):
        s.run(f"m{i}", worker="w2")
    assert len(s.offered(s.advance(5.9))) == 1


def test_embedded_a_backup_may_run_on_the_same_worker():
    s = Script(MachineConfig.for_one_worker())
    s.join("w1", maps=4, reduces=4, total=4)
    s.submit(maps=5)
    s.claim("m4", "w1")
    s.run("m0", "m1", "m2", "m3", worker="w1")
    (offer,) = s.offered(s.advance(6))
    assert (offer.worker, offer.message.not_worker) == ("w1", None)


def test_a_first_failure_with_skip_bad_records_ends_a_careless_backup_too():
    s, slow = near_the_end(skip_bad_records=1)
    s.advance(5)
    backup = s.claim("m4", "w2", Role.BACKUP)
    s.fail(slow)
    assert s.killed() == [backup.attempt.token]
    assert s.of(c.PublishTask)[0].message.careful


def test_a_worker_without_a_folder_charges_nothing_and_another_one_is_preferred():
    s = Script()
    s.join("w1", "w2")
    s.submit()
    s.fail(s.claim("m0", "w1"), Status.LOST, message="maps is gone", started=False, disk=True)
    s.advance(1)
    assert (s.view().losses, s.view().failures) == (0, 0)
    assert s.published() == []
    assert [(o.worker, o.message.task.index) for o in s.offered(s.log)] == [("w2", 0)]


def test_a_folder_that_stays_away_with_nowhere_else_to_go_ends_the_job_by_name():
    s = Script()
    s.join("w1")
    s.submit()
    for _ in range(3):
        attempt(s, "m0", "w1", Status.LOST, message="maps is gone", started=False, disk=True)
    assert s.view().state is JobState.FAILED
    assert (
        s.view().error
        == "m-00000 found no folder of its worker to write in 3 times: ValueError: maps is gone"
    )
