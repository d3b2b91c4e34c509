"""A store falls back to an earlier moment unseen: its fences are what they were. Machine, claims and agent.

Seed 30115: a map was done, its report recorded and answered; the event was still on its way when the store
fell back by a second in which the leader had written nothing. The claim stood there without a report; the
worker had let go of it, so its beats didn't list it; and the leader took that for another death of its
executor, which made the task poison.

Seed 92425: what the store forgot were maps' outputs, which a reduce had read; see `attempts._not_conserved`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from machine_script import spec

from mrq.core import agent_words as a
from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.agent import Agent
from mrq.core.claims import Claims, task_key
from mrq.core.digest import consumed
from mrq.core.info import JobInfo, TaskInfo
from mrq.core.machine import Machine
from mrq.core.model import JobState, Outcome, Slots, Status, TaskMessage, TaskResult, TaskState
from mrq.core.orders import Kill
from mrq.core.refs import Kind
from mrq.core.store_api import Batch, Fence, WriteAnswer


class Cluster:
    """One job, a leader, a store and a worker; whatever the leader is to hear waits in `told`."""

    def __init__(self, maps: int = 1) -> None:
        self.now, self.epoch, self.seq = 100.0, 1, 0
        self.published: list[TaskMessage] = []
        self.deliveries = 0
        self.spec = spec(maps=maps, reducers=1, max_losses=2)
        self.claims, self.machine = Claims(store_id="s"), Machine()
        self.told: list[e.Event] = []
        self.token = ""  #: of the attempt that runs
        self.agent = Agent(a.AgentConfig(worker="w1", boot="b1", slots=Slots(map=1, reduce=2, total=3)))
        self.claims.begin("j", self.fence())
        self.feed(a.Ticked())
        self.hear()
        self.handle(e.JobSubmitted(spec=self.spec))

    def fence(self) -> Fence:
        return Fence(incarnation=1, epoch=self.epoch, owner=f"o{self.epoch}", seq=self.seq)

    def handle(self, event: e.Event) -> None:
        made = self.machine.handle(event, self.now)
        writes = tuple(x for x in made if isinstance(x, c.WriteJob | c.WriteTask | c.WriteLocation))
        if writes:
            self.seq += 1
            tasks = [x.task for x in writes if isinstance(x, c.WriteTask)]
            records = tuple((task_key(task), self.machine.record(task)) for task in tasks)
            job = self.machine.job_record("j")
            batch = Batch(job="j", fence=self.fence(), writes=writes, records=records, job_record=job)
            assert self.claims.write(batch) is WriteAnswer.WRITTEN
        self.published += [x.message for x in made if isinstance(x, c.PublishTask)]

    def hear(self) -> None:
        told, self.told = self.told, []
        for event in told:
            self.handle(event)

    def feed(self, event: a.AgentEvent) -> None:
        for command in self.agent.handle(event, self.now):
            match command:
                case a.SendBeat(beat=beat):
                    reply, events = self.claims.beat(beat)
                    assert reply is not None
                    self.told += events
                    self.feed(a.BeatAnswered(seq=beat.seq, reply=reply))
                case a.Claim(request=request):
                    answer, claimed = self.claims.claim(request)
                    self.told += [claimed] if claimed is not None else []
                    self.feed(a.ClaimAnswered(token=request.token, answer=answer))
                case a.Start(attempt=attempt):
                    self.token = attempt.token
                    self.feed(a.AttemptStarted(token=self.token))
                case Kill(token=token):
                    self.feed(a.AttemptEnded(token=token, outcome=Outcome(status=Status.SUPERSEDED)))
                case a.Report(report=report):
                    said, reported = self.claims.report(report)
                    self.told += [reported] if reported is not None else []
                    self.feed(a.ReportAnswered(token=report.attempt.token, answer=said))

    def seconds(self, n: int) -> None:
        """Beats and ticks."""
        for _ in range(n):
            self.now += 1.0
            self.feed(a.Ticked())
            self.hear()
            self.handle(e.Ticked())

    def start(self) -> tuple[str, TaskMessage]:
        """The oldest message is claimed by its worker, which begins, as the leader hears."""
        while not self.published:
            assert self.view.error is None
            self.seconds(1)
        self.deliveries += 1
        message = self.published.pop(0)
        self.feed(a.Delivered(delivery=self.deliveries, message=message))
        self.hear()
        return self.token, message

    def done(self, token: str, digest: int = 7) -> None:
        """An attempt reports, as the leader is to hear."""
        n = len(self.spec.splits)
        made = TaskResult(records_in=n, bytes_in=1, records_out=1, bytes_out=1, digest=digest)
        self.feed(a.AttemptEnded(token=token, outcome=Outcome(status=Status.DONE, result=made)))

    def run(self) -> Claims:
        """The map is claimed and begins. The store as it was before the claim."""
        while not self.published:
            self.seconds(1)
        before = deepcopy(self.claims)
        self.start()
        assert self.map.state is TaskState.RUNNING
        return before

    @property
    def view(self) -> JobInfo:
        found = self.machine.job("j")
        assert found is not None
        return found

    @property
    def map(self) -> TaskInfo:
        return next(iter(self.machine.tasks("j")))

    def fall_back(self, then: Claims) -> None:
        """The store is as it was `then`, and no fence says so."""
        assert then.fence("j") == self.claims.fence("j")
        self.claims, self.told = deepcopy(then), []


def the_leader_lives(cluster: Cluster) -> None:
    """It hears beats, and nothing else."""


def another_leads(cluster: Cluster) -> None:
    """Nobody led when the store fell back: all that the successor knows is what it loads."""
    cluster.epoch, cluster.seq = cluster.epoch + 1, 0
    cluster.claims.begin("j", cluster.fence())
    cluster.machine, stored = Machine(), cluster.claims.load(cluster.spec)
    assert stored is not None
    cluster.machine.adopt_workers(cluster.claims.heard(), cluster.now)
    assert cluster.machine.adopt(stored, cluster.now)
    cluster.handle(e.Restored())
    for event in stored.recorded:
        cluster.handle(event)


@pytest.mark.parametrize("meanwhile", [the_leader_lives, another_leads])
@pytest.mark.parametrize("behind", ["report", "claim"])
def test_what_a_store_that_fell_back_forgot_of_an_attempt_charges_nothing(
    behind: str, meanwhile: Callable[[Cluster], None]
) -> None:
    cluster = Cluster()
    for _ in range(3):  # more often than max_losses
        unclaimed = cluster.run()
        cluster.seconds(2)
        then = unclaimed if behind == "claim" else deepcopy(cluster.claims)
        cluster.done(cluster.token)
        assert [type(event) for event in cluster.told] == [e.AttemptReported]
        assert not cluster.agent.tokens
        cluster.fall_back(then)
        meanwhile(cluster)
        cluster.seconds(5)
        view = cluster.view
        assert (view.failures, view.losses, view.worker_losses, view.error) == (0, 0, 0, None)
        # A successor hasn't heard of a claim that the store forgot: to it the map is queued.
        unheard = behind == "claim" and meanwhile is another_leads
        assert {error.status for error in view.errors} == (set() if unheard else {Status.UNLISTED})
    cluster.run()
    cluster.done(cluster.token)
    cluster.hear()
    assert cluster.map.state is TaskState.COMPLETED


def test_an_executor_that_died_is_charged_in_a_store_that_keeps_what_it_has() -> None:
    cluster = Cluster()
    for _ in range(2):
        cluster.run()
        cluster.feed(a.AttemptEnded(token=cluster.token, outcome=Outcome(status=Status.LOST)))
        cluster.told = cluster.told[:-1]  # the event is lost, and told again with the next beat
        cluster.seconds(1)
    assert cluster.view.error == "m-00000 killed its executor 2 times"


def read_and_forgotten() -> tuple[Cluster, str]:
    """Both maps are accepted and a reduce has read them; the store falls back to before the second one was,
    and another leads. The reduce's token."""
    cluster = Cluster(maps=2)
    first, _ = cluster.start()
    cluster.done(first)
    cluster.hear()
    second, _ = cluster.start()
    reduce, message = cluster.start()
    assert message.task.kind is Kind.REDUCE
    then = deepcopy(cluster.claims)
    cluster.done(second)
    cluster.hear()
    assert cluster.view.maps.completed == 2
    cluster.claims, cluster.told = then, []
    return cluster, reduce


def finish(cluster: Cluster, digest: int) -> None:
    """All that is left runs; the second map comes out as `digest`, and a reduce waits for it."""
    reduce = ""
    while cluster.view.state is JobState.RUNNING:
        if reduce and cluster.view.maps.completed == 2:
            cluster.done(reduce, consumed(0, 7) + consumed(1, digest))
        else:
            token, message = cluster.start()
            if message.task.kind is Kind.REDUCE:
                reduce = token
            else:
                cluster.done(token, digest)
        cluster.hear()


@pytest.mark.parametrize("again", [7, 8], ids=["as it was", "different"])
@pytest.mark.parametrize("when", ["nobody leads", "the map is to run again", "the map was done again"])
def test_a_reduce_that_read_an_output_which_the_store_forgot_runs_again(when: str, again: int) -> None:
    cluster, reduce = read_and_forgotten()
    read = consumed(0, 7) + consumed(1, 7)
    if when == "nobody leads":
        cluster.done(reduce, read)
    another_leads(cluster)
    if when == "the map is to run again":
        cluster.done(reduce, read)
    if when == "the map was done again":
        cluster.done(cluster.start()[0], again)
        cluster.hear()
        cluster.done(reduce, read)
    cluster.hear()
    finish(cluster, again)
    view = cluster.view
    assert (view.state, view.error) == (JobState.COMMITTING, None)
    assert (view.failures, view.losses, view.worker_losses) == (0, 0, 0)
    right = again == 7 and when == "the map was done again"
    assert sum(error.stage == "reduce" for error in view.errors) == (0 if right else 1)
    assert {error.status for error in view.errors} == {Status.UNLISTED}


def test_a_reduce_that_never_consumes_what_is_accepted_fails_the_job_after_a_takeover_too() -> None:
    cluster, reduce = read_and_forgotten()
    cluster.done(reduce, digest=5)
    another_leads(cluster)
    while cluster.view.state is JobState.RUNNING:
        cluster.done(cluster.start()[0], digest=5)
        cluster.hear()
    assert cluster.view.error == "r-00000 ended 50 times without a result, the last time as unlisted"
