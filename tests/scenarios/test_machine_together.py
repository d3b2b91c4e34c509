"""Several short tasks in one message: how many, whose, and what becomes of them when it dies."""

from __future__ import annotations

from collections import defaultdict

from machine_script import Script, parse

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine_config import MachineConfig
from mrq.core.model import JobState, Role, Status, TaskState


def messages(s: Script, where: list[c.Command] | None = None) -> list[list[str]]:
    """Tasks of the latest step, by message."""
    found: dict[object, list[str]] = defaultdict(list)
    for command in s.of(c.PublishTask, where):
        task = command.message.task
        found[command.together or command].append(f"{task.job}/{task.kind.value}{task.index}")
    return list(found.values())


def running(s: Script, maps: int = 400, *, seconds: float = 0.001, job: str = "j", **more: object) -> None:
    """A job of which some maps are done, each in so long; what was published before goes away unclaimed."""
    s.submit(job, maps=maps, reducers=0, **more)
    for index in range(4):
        s.done(s.claim(f"{job}/m{index}", "w1"), seconds=seconds)
    s.do(e.StoreLost())


def test_while_nothing_is_known_of_a_jobs_tasks_each_has_a_message_of_its_own() -> None:
    s = Script()
    s.join("w1", "w2")
    s.submit(maps=100, reducers=0)
    assert {len(tasks) for tasks in messages(s)} == {1}


def test_short_tasks_travel_together_up_to_a_bound_of_time() -> None:
    for seconds, size in ((0.0001, 64), (0.001, 50), (0.01, 5), (0.04, 1), (3.0, 1)):
        s = Script(MachineConfig(window_min=400))
        s.join("w1", maps=4)
        running(s, 1000, seconds=seconds)
        assert max(len(tasks) for tasks in messages(s)) == size


def test_no_message_names_more_than_a_slots_share_of_what_waits() -> None:
    s = Script(MachineConfig(window_min=400))
    s.join("w1", "w2", maps=4)
    running(s, 28)
    assert [len(tasks) for tasks in messages(s)] == [3] * 8, "24 are left, for 8 slots"


def test_the_window_is_filled_a_message_at_a_time() -> None:
    s = Script(MachineConfig(window_min=100))
    s.join("w1", maps=2)
    running(s, 1000)
    s.log.clear()
    queued = [task for tasks in messages(s) for task in tasks]
    for task in queued[:60]:
        s.claim(task, "w1")
    assert {len(tasks) for tasks in messages(s, s.log)} == {25}, "a quarter of the window"


def test_no_message_names_tasks_of_two_jobs() -> None:
    s = Script(MachineConfig(window_min=200))
    s.join("w1")
    running(s, 200)
    running(s, 200, job="k")
    s.do(e.StoreLost())
    s.advance(1.0)
    for tasks in messages(s, s.log):
        assert len({task.partition("/")[0] for task in tasks}) == 1


def test_a_task_with_which_something_went_wrong_travels_alone() -> None:
    s = Script(MachineConfig(window_min=400))
    s.join("w1", "w2")
    running(s)
    bad = s.claim("m7", "w1")
    s.log.clear()
    s.fail(bad, Status.HANDED_BACK, started=False)
    for index in range(8, 108):
        s.claim(f"m{index}", "w1")
    assert ["j/m7"] in messages(s, s.log)


def test_one_job_takes_no_more_than_a_message_before_anothers_turn() -> None:
    s = Script(MachineConfig(window_min=600))
    s.join("w1")
    running(s, 300)
    running(s, 300, job="k", priority=1)
    s.do(e.StoreLost())
    jobs = [tasks[0].partition("/")[0] for tasks in messages(s)]
    assert jobs[:6] == ["j", "k", "k", "j", "k", "k"], "k has twice the weight"


def test_each_task_of_a_message_that_died_is_published_again_by_itself_and_only_what_ran_is_charged() -> None:
    s = Script(MachineConfig(window_min=400))
    s.join("w1", "w2")
    running(s)
    tasks = messages(s)[0]
    assert len(tasks) > 4
    ran = s.claim(tasks[0], "w1")
    s.fail(ran, Status.LOST)
    done = s.claim(tasks[1], "w1")
    s.done(done)
    claimed = s.claim(tasks[2], "w1")
    s.log.clear()
    for task in tasks:
        message = ran.message if task == tasks[0] else s.messages[parse(task), Role.PRIMARY]
        s.do(e.MessageDied(message=message, reason="it came back more than 20 times"))
    for index in range(200, 300):
        s.claim(f"m{index}", "w2")
    s.advance(3.0)
    again = messages(s, s.log)
    assert all([task] in again for task in (tasks[0], *tasks[3:]))
    assert not any(task in each for each in again for task in tasks[1:3])
    assert {task: s.task(task).losses for task in tasks} == {task: int(task == tasks[0]) for task in tasks}
    assert s.is_(tasks[1], TaskState.COMPLETED)
    s.done(claimed)
    assert s.is_(tasks[2], TaskState.COMPLETED)
    assert s.state() is JobState.RUNNING
