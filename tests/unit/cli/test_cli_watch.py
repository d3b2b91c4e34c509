"""What the command does while a job runs, with a handle that the test plays."""

import io
import signal

import pytest
from said import listening

from mrq.cli.attend import attend_here, watch
from mrq.cli.console import Console
from mrq.cli.session import Session
from mrq.cli.signals import Stopped
from mrq.client import JobFailed
from mrq.errors import Interrupted
from mrq.handle import Handle as EngineHandle


class Handle:
    """A job that ends after some looks, or when it is cancelled."""

    job = "j-1"
    notes = ()

    def __init__(self, *, looks=3, result="done", signal_at=None, cancelled=None):
        self.looks, self.outcome, self.signal_at, self.on_cancel = looks, result, signal_at, cancelled
        self.cancels = 0
        self.over = False

    def wait(self, timeout_s=None):
        self.looks -= 1
        if self.looks == self.signal_at:
            signal.raise_signal(signal.SIGINT)
        self.over = self.over or self.looks <= 0
        return self.over

    def done(self):
        return self.over

    def cancel(self):
        self.cancels += 1
        if self.on_cancel is not None:
            self.outcome, self.over = self.on_cancel, True

    def view(self):
        return None

    def result(self, timeout_s=None):
        if not self.over:
            raise TimeoutError
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Engine:
    def __init__(self, root):
        self.root = str(root)


def go(handle, tmp_path):
    session = Session(console=Console(io.StringIO(), environ={}))
    with session.signals:
        return attend_here(session, Engine(tmp_path), lambda: handle), session


def test_a_job_that_ends_gives_its_result(tmp_path):
    result, session = go(Handle(), tmp_path)
    assert result == "done"
    assert session.job == "j-1"


def test_a_note_is_said_as_it_comes_and_kept_once():
    session = Session(console=Console(io.StringIO(), environ={}))
    handle = EngineHandle("j-1", cancel=lambda job: None, view=lambda job: None)
    with listening() as said:
        for text in ("what was kept", "what was kept", "and more"):
            handle.note(text)
        handle.finish("done", None)
        watch(session, handle, stop=lambda session, handle: None)
    assert session.notes == ("what was kept", "and more")
    assert said == ["note: what was kept"] * 2 + ["note: and more"]


def test_a_signal_cancels_and_is_raised(tmp_path):
    handle = Handle(looks=1000, signal_at=990, cancelled=Interrupted("cancelled"))
    with pytest.raises(Stopped) as caught:
        go(handle, tmp_path)
    assert caught.value.exit_code == 130
    assert handle.cancels == 1


def test_a_job_that_does_not_end_when_cancelled_is_left_to_the_engine(tmp_path):
    with pytest.raises(Stopped):
        go(Handle(looks=1000, signal_at=990), tmp_path)


def test_a_job_that_committed_before_the_signal_is_done(tmp_path):
    assert go(Handle(looks=1000, signal_at=990, cancelled="done"), tmp_path)[0] == "done"


@pytest.mark.parametrize("kept", [True, False])
def test_retry_is_offered_only_for_what_is_kept(tmp_path, kept):
    if kept:
        (tmp_path / "jobs" / "j-1").mkdir(parents=True)
    session = Session(console=Console(io.StringIO(), environ={}))
    with session.signals, pytest.raises(JobFailed):
        attend_here(session, Engine(tmp_path), lambda: Handle(result=JobFailed("failed", job="j-1")))
    assert session.job == ("j-1" if kept else None)
