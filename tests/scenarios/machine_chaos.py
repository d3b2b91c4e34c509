"""Random scripts for the leader's machine: events that fit what was published, and some that don't."""

from __future__ import annotations

from hypothesis import strategies as st
from machine_script import message_of

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.machine import Machine
from mrq.core.model import (
    Beat,
    ErrorReport,
    FetchFailure,
    JobState,
    Outcome,
    RunningAttempt,
    Slots,
    Status,
    TaskResult,
)
from mrq.core.refs import AttemptRef, Kind

JOBS = ("a", "b")
WORKERS = ("w1", "w2", "w3")

#: What a random script does next: (what, job, task, worker, detail, seconds that pass).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["claim"] * 6
            + ["done"] * 8
            + ["fail"] * 3
            + ["beat"] * 5
            + ["tick"] * 5
            + ["missing", "cancel", "retry", "commit", "drain", "readmit", "left", "died"]
        ),
        st.integers(0, 1),
        st.integers(0, 7),
        st.integers(0, 2),
        st.integers(0, 9),
        st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0]),
    ),
    max_size=60,
)


class Chaos:
    """Makes events out of a step and what was published; also stale, doubled and impossible ones."""

    def __init__(self) -> None:
        self.messages: list = []
        self.claims: list = []
        self.seq = 0

    def see(self, commands: list[c.Command]) -> None:
        self.messages += [m for x in commands if (m := message_of(x)) is not None]

    def event(self, step: tuple) -> e.Event:
        what, job, task, worker, detail, _ = step
        name, who = JOBS[job], WORKERS[worker]
        boot = f"{who}-{detail // 5}"
        if what in ("claim", "died") and self.messages:
            return self._claim(what, self.messages[-1 - task % len(self.messages)], who, boot)
        if what in ("done", "fail", "missing") and self.claims:
            return self._end(what, self.claims[-1 - task % len(self.claims)], detail)
        if what == "beat":
            return self._beat(who, boot, detail)
        named = {
            "cancel": e.CancelRequested(job=name),
            "retry": e.RetryRequested(job=name),
            "commit": e.CommitEnded(job=name) if detail % 2 else e.CommitEnded(job=name, error="x"),
            "drain": e.DrainRequested(worker=who),
            "readmit": e.ReadmitRequested(worker=who),
            "left": e.WorkerLeft(worker=who, boot=boot),
        }
        return named.get(what, e.Ticked())

    def _claim(self, what: str, m, who: str, boot: str) -> e.Event:
        if what == "died":
            return e.MessageDied(message=m, reason="returned")
        number = len(self.claims) + 1
        attempt = AttemptRef(m.task, m.ticket, number, f"t{number}")
        event = e.AttemptClaimed(attempt=attempt, worker=who, boot=boot)
        self.claims.append(event)
        return event

    def _end(self, what: str, claim: e.AttemptClaimed, detail: int) -> e.Event:
        task = {"attempt": claim.attempt}
        result = TaskResult(
            records_in=2,
            bytes_in=1,
            records_out=2,
            bytes_out=1,
            digest=detail // 8,
            counters={"n": detail},
            seconds=detail / 7,
        )
        if what == "missing":
            return e.OutputMissing(**task)
        outcome = Outcome(status=Status.DONE, result=result)
        if what == "fail":
            status = [s for s in Status if s is not Status.DONE][detail % 8]
            error = ErrorReport(type="E", message=str(detail))
            fetch = (FetchFailure(map_index=0, ticket=1, reason="not_found"),)
            outcome = Outcome(status=status, error=error, fetch_failures=fetch, started=detail > 1)
        return e.AttemptReported(**task, worker=claim.worker, boot=claim.boot, outcome=outcome)

    def _beat(self, who: str, boot: str, detail: int) -> e.Event:
        self.seq += 1
        running = tuple(
            RunningAttempt(attempt=x.attempt, records=1)
            for x in self.claims[-8:]
            if x.worker == who and x.boot == boot and detail % 3
        )
        slots = Slots(map=2, reduce=2, total=3 + detail % 2)
        return e.BeatReceived(beat=Beat(worker=who, boot=boot, seq=self.seq, slots=slots, running=running))


def check(machine: Machine) -> None:
    """What must hold after any event, whatever was thrown at the machine."""
    state = machine._state
    for kind in Kind:
        tables = [job.table(kind) for job in state.jobs.values()]
        assert state.totals[kind] == [sum(t.counts[code] for t in tables) for code in range(4)]
        for table in tables:
            assert table.counts == [table.state.count(code) for code in range(4)]
            in_progress = {i for i in range(len(table)) if table.state[i] in (1, 2)}
            assert set(table.flights) == in_progress
            assert set(table.running) == {i for i in in_progress if table.flights[i].attempts()}
            assert table.counts[2] == len(table.running)
    held = sum(len(w.held) for w in state.workers.all.values())
    live = [
        a
        for job in state.jobs.values()
        for table in (job.maps, job.reduces)
        for flight in table.flights.values()
        for a in flight.attempts()
    ]
    assert held == len(live)
    assert state.workers.out == {w.worker for w in state.workers.all.values() if w.takes}
    for job in state.jobs.values():
        if job.state is not JobState.RUNNING and job.state is not JobState.PENDING:
            assert not job.maps.flights
            assert not job.reduces.flights
