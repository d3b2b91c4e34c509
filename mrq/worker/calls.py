"""What the agent's loop asks of the store: inline where the store is in this process, by threads elsewhere.

The loop hands over a call and goes on; what comes of it is posted to its inbox as an event. Whatever waits
here is bounded by the agent's machine: one beat, one claim and one report a token, one search a job.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mrq.core import agent_words as a
from mrq.core.backoff import Backoff, Retry
from mrq.core.events import AttemptReported
from mrq.core.model import Beat
from mrq.core.store_api import ClaimAnswer, ClaimRequest, ReportAnswer
from mrq.errors import MrqError, OperatorError
from mrq.ports import Sink, WorkerStore

_LOG: Final = logging.getLogger(__name__)

#: Claims or reports in one call.
_CALL_MAX: Final = 128
#: A job is looked for so often while the store is away: its first attempts wait for it.
_FINDS_MAX: Final = 30
_FIND_AGAIN: Final = Backoff(base_s=1.0, max_s=2.0)
#: What `close` waits for reports and the goodbye.
_CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFound:
    """What came of looking for a job: `found`, None where there is no such job (any more), or the error that
    prevented it."""

    job: str
    stage: int = 0  #: the number of the run of a stage whose plan was wanted
    found: object | None = None
    error: MrqError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerDied:
    """A thread of the calls died of a bug; nothing more comes of what it was given."""

    error: BaseException


class Calls:
    """Calls made at once, on the loop's own thread: the store answers from memory.

    All but `attach` and `close` may be called from the loop's thread only.
    """

    def __init__(self, store: WorkerStore) -> None:
        self._store = store
        self._sink: Sink = _nobody
        self._patient = False  #: with a store that is away
        self._closing = threading.Event()

    def attach(self, sink: Sink) -> None:
        """Where answers go: events of `core.agent`, and JobFound."""
        self._sink = sink

    def claim(self, requests: Sequence[ClaimRequest]) -> None:
        """ClaimAnswered follows for each."""
        self._hand_over("claims", requests)

    def report(self, reports: Sequence[AttemptReported]) -> None:
        """ReportAnswered follows for each."""
        self._hand_over("reports", reports)

    def beat(self, beat: Beat) -> None:
        """BeatAnswered follows."""
        self._hand_over("beats", [lambda: self._beat(beat)])

    def find_job(self, job: str, find: Callable[[], object | None], stage: int = 0) -> None:
        """Run `find`, which reads the store and the disk; JobFound follows."""
        self._hand_over("jobs", [lambda: self._sink(self._find_job(job, find, stage))])

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something slow of which nothing follows."""
        self._hand_over("background", [work])

    def leave(self, worker: str, boot: str) -> None:
        """Say goodbye, after every beat that was handed over."""

        def leave() -> None:
            with contextlib.suppress(OperatorError):
                self._store.leave(worker, boot)

        self._hand_over("beats", [leave])

    def close(self) -> None:
        """Send the reports and the goodbye that were handed over, within a bound; drop the rest."""

    def _hand_over(self, kind: str, what: Sequence[Any]) -> None:
        """Have it done: requests and reports in one call, of anything else each by itself."""
        self._do(kind, what)

    def _do(self, kind: str, what: Sequence[Any]) -> None:
        if kind == "claims":
            self._claim(what)
        elif kind == "reports":
            self._report(what)
        else:
            for work in what:
                work()

    def _claim(self, requests: Sequence[ClaimRequest]) -> None:
        answers: Sequence[ClaimAnswer | None]
        try:
            answers = self._store.claim(requests)
        except OperatorError:
            answers = [None] * len(requests)
        for request, answer in zip(requests, answers, strict=True):
            self._sink(a.ClaimAnswered(token=request.token, answer=answer))

    def _report(self, reports: Sequence[AttemptReported]) -> None:
        answers: Sequence[ReportAnswer | None]
        try:
            answers = self._store.report(reports)
        except OperatorError:
            answers = [None] * len(reports)
        for report, answer in zip(reports, answers, strict=True):
            if answer is not None and _LOG.isEnabledFor(logging.DEBUG):
                _log(report)
            self._sink(a.ReportAnswered(token=report.attempt.token, answer=answer))

    def _beat(self, beat: Beat) -> None:
        try:
            reply = self._store.beat(beat)
        except OperatorError:
            reply = None
        self._sink(a.BeatAnswered(seq=beat.seq, reply=reply))

    def _find_job(self, job: str, find: Callable[[], object | None], stage: int) -> JobFound:
        retry = Retry(_FIND_AGAIN)
        while True:
            try:
                return JobFound(job=job, stage=stage, found=find())
            except MrqError as exc:
                again = self._patient and isinstance(exc, OperatorError) and retry.failures < _FINDS_MAX - 1
                if not again or self._closing.wait(retry.failed()):
                    return JobFound(job=job, stage=stage, error=exc)


class ThreadedCalls(Calls):
    """Calls of a store that may be slow or away: none waits for it, so the loop never does.

    A thread for each kind: a slow claim delays no beat. A claim may so overtake a beat that was made before
    it and doesn't list it; the store's floor of a claim allows for that one, and the next is made only when
    it was answered. Claims that wait together go in one call, so do reports.
    """

    def __init__(self, store: WorkerStore) -> None:
        """`store` is called from several threads."""
        super().__init__(store)
        self._patient = True
        kinds = ("reports", "beats", "claims", "jobs", "background")
        self._callers = {kind: _Caller(kind, partial(self._do, kind)) for kind in kinds}

    def attach(self, sink: Sink) -> None:
        """Where answers go; from here on threads run."""
        super().attach(sink)
        for caller in self._callers.values():
            caller.start(crashed=sink)

    def close(self) -> None:
        """Send reports and the goodbye; what takes longer than 3 s is given up with its thread."""
        self._closing.set()
        until = time.monotonic() + _CLOSE_S
        for kind, caller in self._callers.items():
            caller.end(drop=kind not in ("reports", "beats"))
        for caller in self._callers.values():
            caller.join(max(0.0, until - time.monotonic()))

    def _hand_over(self, kind: str, what: Sequence[Any]) -> None:
        self._callers[kind].put(what)


class _Caller:
    """A thread that makes calls of one kind, in order; what waits together is done together."""

    def __init__(self, kind: str, do: Callable[[Sequence[Any]], None]) -> None:
        self._kind = kind
        self._do = do
        self._waiting: deque[Any] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self, *, crashed: Sink) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(crashed,), name=f"mrq-{self._kind}", daemon=True
        )
        self._thread.start()

    def put(self, many: Sequence[Any]) -> None:
        with self._changed:
            if not self._ending:
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

    def _run(self, crashed: Sink) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ending)
                    taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _CALL_MAX))]
                if not taken:
                    return
                self._do(taken)
        except BaseException as exc:
            crashed(CallerDied(error=exc))
            raise


def _log(report: AttemptReported) -> None:
    (task, ticket, number, _), outcome = report.attempt, report.outcome
    why = f": {outcome.error.type}: {outcome.error.message}" if outcome.error is not None else ""
    about = {"job": task.job, "task": str(task), "attempt": f"{ticket}.{number}"}
    where = {"worker": report.worker, "boot": report.boot}
    _LOG.debug("%s is %s%s", task, outcome.status.value, why, extra=about | where)


def _nobody(event: object) -> None:
    raise AssertionError(f"{event!r} came before anybody was attached")
