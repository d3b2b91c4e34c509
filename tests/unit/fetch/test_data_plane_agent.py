"""The agent's side of a data plane, over a child that is none."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.paths import fetched_path
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.worker.exits import Exit
from mrq.worker.fetch import data_plane, messages
from mrq.worker.fetch.data_plane import DataPlane
from mrq.worker.fetch.messages import (
    Alive,
    BeginFetch,
    Discard,
    Fetched,
    FetchFailed,
    FetchProgressed,
    Hello,
    Ready,
)

HANDED_BACK = Outcome(status=Status.HANDED_BACK, started=False)
LOST = Outcome(status=Status.LOST, error=ErrorReport(type="X", message="x"), started=False)


class FakeChild:
    """What a `Child` is to a data plane: the test says what it says, and when it ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.read = -1
        self.told: list[object] = []
        self.killed = False
        self.says: list[object] = [Ready(address=f"here:{pid}")]
        self.heard: Callable[[], None]
        self.ended: Callable[[], None]

    def attach(self, selector: object, *, heard: Callable[[], None], ended: Callable[[], None]) -> None:
        self.heard, self.ended = heard, ended

    def detach(self) -> None:
        pass

    def send(self, frame: dict[str, Any]) -> None:
        self.told.append(messages.read(frame))

    def flush(self) -> None:
        pass

    def receive(self) -> list[dict[str, Any]]:
        said, self.says = self.says, []
        return [messages.frame(each) for each in said]

    def say(self, *said: object) -> None:
        self.says += said
        self.heard()

    def kill(self) -> None:
        self.killed = True

    def reap(self) -> Exit:
        return Exit(code=None, signal=9, peak_rss_bytes=0)

    def wait(self, timeout_s: float) -> Exit:
        return self.reap()


class Rig:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.children: list[FakeChild] = []
        self.broken: OSError | None = None
        self.told: list[Any] = []
        self.troubles: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(data_plane, "Child", self._child)
        monkeypatch.setattr(data_plane.time, "monotonic", lambda: self.now)
        hello = Hello(root=str(root), worker="w", boot="b", redis_url="redis://nowhere/0")
        self.plane = DataPlane(hello)
        self.plane.start()
        self.plane.attach(selectors.DefaultSelector(), self.told.append, self.troubles.append)

    def _child(self, module: str, *, environment: object) -> FakeChild:
        if self.broken is not None:
            raise self.broken
        self.children.append(FakeChild(len(self.children) + 1))
        return self.children[-1]

    @property
    def child(self) -> FakeChild:
        return self.children[-1]

    def fetch(self, token: str) -> AttemptRef:
        attempt = AttemptRef(TaskRef("j", 0, Kind.REDUCE, 0), 1, 1, token)
        self.plane.fetch(attempt, 2)
        return attempt

    def passes(self, seconds: int) -> None:
        """Time, in which the loop goes round."""
        for _ in range(seconds):
            self.now += 1.0
            self.plane.watch(self.now)

    def outcomes(self) -> list[tuple[str, Status, bool]]:
        return [
            (e.token, e.outcome.status, e.outcome.started) for e in self.told if isinstance(e, FetchFailed)
        ]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_what_waits_is_handed_back_at_once_and_what_was_fetched_is_not(rig: Rig) -> None:
    kept, waits = rig.fetch("kept"), rig.fetch("waits")
    for attempt in (kept, waits):
        path = Path(fetched_path(str(rig.root), "j", attempt.token))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rig.child.say(Fetched(token="kept", sources=()), FetchProgressed(token="waits", fraction=0.5, bytes=1))
    rig.child.ended()
    assert rig.told[2:] == [FetchFailed(token="waits", outcome=HANDED_BACK)]
    assert [each.name for each in path.parent.iterdir()] == ["kept"]
    rig.plane.discard(kept)  # nobody else is there to remove it
    assert list(path.parent.iterdir()) == []


def test_the_next_process_is_told_what_waits_since_then_and_serves_at_the_same_address(rig: Rig) -> None:
    rig.fetch("before")
    rig.child.ended()
    attempt = rig.fetch("since")
    assert len(rig.children) == 1
    rig.passes(1)
    hello, begun = rig.child.told
    assert isinstance(hello, Hello)
    assert hello.bind == "here:1"
    assert begun == BeginFetch(attempt=attempt, maps=2)
    rig.child.say(Fetched(token="since", sources=()))
    assert rig.told[-1].token == "since"


def test_the_third_death_in_a_row_under_what_waits_is_charged(rig: Rig) -> None:
    for token in "abc":
        rig.fetch(token)
        rig.child.ended()
        rig.child.ended = lambda: None
        rig.passes(5)
        rig.child.say()
    assert rig.outcomes() == [
        ("a", Status.HANDED_BACK, False), ("b", Status.HANDED_BACK, False), ("c", Status.LOST, True),
    ]  # fmt: skip
    rig.fetch("d")
    rig.child.say(Fetched(token="d", sources=()))
    rig.fetch("e")
    rig.child.ended()
    assert rig.outcomes()[-1] == ("e", Status.HANDED_BACK, False)


def test_deaths_under_which_nothing_waits_count_for_nothing(rig: Rig) -> None:
    for _ in range(5):
        rig.child.ended()
        rig.passes(5)
        rig.child.say()
    rig.fetch("a")
    rig.child.ended()
    assert rig.outcomes() == [("a", Status.HANDED_BACK, False)]


def test_fetches_that_are_lost_by_themselves_are_charged_at_last_too(rig: Rig) -> None:
    for token in "abc":
        rig.fetch(token)
        rig.child.say(FetchFailed(token=token, outcome=LOST))
    assert [started for _, _, started in rig.outcomes()] == [False, False, True]
    assert [each.attempt.token for each in rig.child.told if isinstance(each, Discard)] == ["a", "b", "c"]


def test_where_none_can_be_started_what_waits_is_handed_back_too(rig: Rig) -> None:
    rig.child.ended()
    rig.broken = OSError("no processes are left")
    rig.fetch("a")
    rig.passes(1)
    assert rig.outcomes() == [("a", Status.HANDED_BACK, False)]
    rig.broken = None
    rig.passes(5)
    assert len(rig.children) == 2


def test_a_process_that_says_nothing_is_told_of_then_killed_and_then_what_waits_goes_back(rig: Rig) -> None:
    rig.fetch("a")
    rig.child.say(Alive(trouble=""))
    rig.passes(9)
    assert rig.troubles == []
    rig.passes(1)
    assert rig.troubles == ["the data plane doesn't serve: it has said nothing for 10 s"]
    rig.passes(28)
    assert not rig.child.killed
    rig.passes(2)
    assert rig.child.killed
    assert rig.outcomes() == []
    rig.child.ended()
    assert rig.outcomes() == [("a", Status.HANDED_BACK, False)]
    rig.passes(1)
    rig.child.say(Alive(trouble=""))
    assert rig.troubles[1:] == [""]


def test_nothing_is_told_of_what_was_discarded(rig: Rig) -> None:
    attempt = rig.fetch("a")
    rig.plane.discard(attempt)
    rig.child.say(
        FetchProgressed(token="a", fraction=1.0, bytes=1),
        Fetched(token="a", sources=()),
        FetchFailed(token="a", outcome=LOST),
    )
    rig.child.ended()
    assert rig.told == []


def test_what_is_no_message_ends_the_process(rig: Rig) -> None:
    rig.fetch("a")
    rig.child.say(BeginFetch(attempt=rig.fetch("b"), maps=1))
    assert rig.child.killed
