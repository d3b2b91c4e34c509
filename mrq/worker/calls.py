"""What the agent's loop asks of the store: inline where the store is in this process, by threads elsewhere.

The loop hands over a call and goes on; what comes of it is posted to its inbox as an event. Whatever waits
here is bounded by the agent's machine: one beat, one claim and one report a token, one look a job.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mrq.core import agent_words as a
from mrq.core.backoff import Backoff, Retry
from mrq.core.events import AttemptReported
from mrq.core.exchange import ClaimRequest
from mrq.core.model import Beat
from mrq.errors import MrqError, OperatorError
from mrq.ports import Sink, WorkerStore

_LOG: Final = logging.getLogger(__name__)

#: Claims or reports in one call.
_CALL_MAX: Final = 128
#: A look is repeated so often while the store is away: a job's first attempts wait for it.
_LOOKS_MAX: Final = 30
_LOOK_AGAIN: Final = Backoff(base_s=1.0, max_s=2.0)
#: What `close` waits for reports and the goodbye.
_CLOSE_S: Final = 3.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look gave: `found`, None where there is no such thing, or the error that prevented it."""

    key: str
    found: object | None = None
    error: MrqError | None = None


class Calls:
    """Calls made at once, on the loop's own thread: the store answers from memory.

    All but `attach` and `close` may be called from the loop's thread only.
    """

    def __init__(self, store: WorkerStore) -> None:
        self._store = store
        self._sink: Sink = _nobody

    def attach(self, sink: Sink) -> None:
        """Where answers go: events of `core.agent`, and Looked."""
        self._sink = sink

    def claim(self, requests: Sequence[ClaimRequest]) -> None:
        """ClaimAnswered or ClaimFailed follows for each."""
        _claim(self._store, requests, self._sink)

    def report(self, reports: Sequence[AttemptReported]) -> None:
        """ReportAnswered or ReportFailed follows for each."""
        _report(self._store, reports, self._sink)

    def beat(self, beat: Beat) -> None:
        """BeatAnswered or BeatUnanswered follows."""
        _beat(self._store, beat, self._sink)

    def look(self, key: str, find: Callable[[], object | None]) -> None:
        """Run `find`, which reads the store and the disk; Looked follows."""
        try:
            looked = Looked(key=key, found=find())
        except MrqError as exc:
            looked = Looked(key=key, error=exc)
        self._sink(looked)

    def errand(self, work: Callable[[], None]) -> None:
        """Run something slow of which nothing follows."""
        work()

    def leave(self, worker: str, boot: str) -> None:
        """Say goodbye, after every beat that was handed over."""
        with contextlib.suppress(OperatorError):
            self._store.leave(worker, boot)

    def close(self) -> None:
        """Send the reports and the goodbye that were handed over, within a bound; drop the rest."""


class ThreadedCalls(Calls):
    """Calls of a store that may be slow or away: none waits for it, so the loop never does.

    A thread each for beats, claims, reports, looks and errands: a slow claim delays no beat. A claim may so
    overtake a beat that was made before it and doesn't list it; the store's floor of a claim allows for that
    one, and the next is made only when it was answered. Claims that wait together go in one call, so do
    reports.
    """

    def __init__(self, store: WorkerStore) -> None:
        """`store` is called from several threads."""
        super().__init__(store)
        self._closing = threading.Event()
        self._claims = _Line[ClaimRequest]("mrq-claims", lambda many: _claim(store, many, self._sink))
        self._reports = _Line[AttemptReported]("mrq-reports", lambda many: _report(store, many, self._sink))
        self._beats = _Line[Callable[[], None]]("mrq-beats", _each)
        self._looks = _Line[Callable[[], None]]("mrq-looks", _each)
        self._errands = _Line[Callable[[], None]]("mrq-errands", _each)

    def attach(self, sink: Sink) -> None:
        """Where answers go; from here on threads run."""
        self._sink = sink
        for line in (self._claims, self._reports, self._beats, self._looks, self._errands):
            line.start(crashed=sink)

    def claim(self, requests: Sequence[ClaimRequest]) -> None:
        """Claim."""
        self._claims.put(requests)

    def report(self, reports: Sequence[AttemptReported]) -> None:
        """Report."""
        self._reports.put(reports)

    def beat(self, beat: Beat) -> None:
        """Beat."""
        self._beats.put([lambda: _beat(self._store, beat, self._sink)])

    def look(self, key: str, find: Callable[[], object | None]) -> None:
        """Look, and again while the store is away."""
        self._looks.put([lambda: self._sink(self._look(key, find))])

    def errand(self, work: Callable[[], None]) -> None:
        """Run it after those before it."""
        self._errands.put([work])

    def leave(self, worker: str, boot: str) -> None:
        """Say goodbye."""
        leave = super().leave
        self._beats.put([lambda: leave(worker, boot)])

    def close(self) -> None:
        """Send reports and the goodbye; what takes longer than 3 s is given up with its thread."""
        self._closing.set()
        until = time.monotonic() + _CLOSE_S
        for dropped in (self._claims, self._looks, self._errands):
            dropped.end(drop=True)
        for sent in (self._reports, self._beats):
            sent.end(drop=False)
        for line in (self._reports, self._beats, self._claims, self._looks, self._errands):
            line.join(max(0.0, until - time.monotonic()))

    def _look(self, key: str, find: Callable[[], object | None]) -> Looked:
        retry = Retry(_LOOK_AGAIN)
        while True:
            try:
                return Looked(key=key, found=find())
            except OperatorError as exc:
                if retry.failures == _LOOKS_MAX - 1 or self._closing.wait(retry.failed()):
                    return Looked(key=key, error=exc)
            except MrqError as exc:
                return Looked(key=key, error=exc)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerDied:
    """A thread of the calls died of a bug; nothing more comes of what it was given."""

    error: BaseException


class _Line(Generic[T]):
    """Work for one thread, in order; what waits together is done together."""

    def __init__(self, name: str, work: Callable[[Sequence[T]], None]) -> None:
        self._name = name
        self._work = work
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._crashed: Sink = _nobody

    def start(self, *, crashed: Sink) -> None:
        self._crashed = crashed
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, many: Sequence[T]) -> None:
        with self._changed:
            if self._ending:
                return
            self._waiting.extend(many)
            self._changed.notify()

    def end(self, *, drop: bool) -> None:
        with self._changed:
            self._ending = True
            if drop:
                self._waiting.clear()
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while taken := self._take():
                self._work(taken)
        except BaseException as exc:
            self._crashed(CallerDied(error=exc))
            raise

    def _take(self) -> list[T]:
        """What waits, at most a call's worth; empty at the end."""
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _CALL_MAX))]


def _claim(store: WorkerStore, requests: Sequence[ClaimRequest], sink: Sink) -> None:
    try:
        answers = store.claim(requests)
    except OperatorError:
        for request in requests:
            sink(a.ClaimFailed(token=request.token))
        return
    for request, answer in zip(requests, answers, strict=True):
        sink(a.ClaimAnswered(token=request.token, answer=answer))


def _report(store: WorkerStore, reports: Sequence[AttemptReported], sink: Sink) -> None:
    try:
        answers = store.report(reports)
    except OperatorError:
        for report in reports:
            sink(a.ReportFailed(token=report.attempt.token))
        return
    for report, answer in zip(reports, answers, strict=True):
        if _LOG.isEnabledFor(logging.DEBUG):
            _log(report)
        sink(a.ReportAnswered(token=report.attempt.token, answer=answer))


def _log(report: AttemptReported) -> None:
    (task, ticket, number, _), outcome = report.attempt, report.outcome
    why = f": {outcome.error.type}: {outcome.error.message}" if outcome.error is not None else ""
    about = {"job": task.job, "task": str(task), "attempt": f"{ticket}.{number}"}
    where = {"worker": report.worker, "boot": report.boot}
    _LOG.debug("%s is %s%s", task, outcome.status.value, why, extra=about | where)


def _beat(store: WorkerStore, beat: Beat, sink: Sink) -> None:
    try:
        reply = store.beat(beat)
    except OperatorError:
        reply = None
    if reply is None:
        sink(a.BeatUnanswered(seq=beat.seq))
    else:
        sink(a.BeatAnswered(seq=beat.seq, reply=reply))


def _each(many: Sequence[Callable[[], None]]) -> None:
    for work in many:
        work()


def _nobody(event: object) -> None:
    raise AssertionError(f"{event!r} came before anybody was attached")
