"""What clients ask of a leader: answered by `RequestHandler`, whoever asks; a cluster's come over the store,
from where a `RequestLoop` takes them in order, and forgets them once what they asked for is persisted.

Questions are answered on the loop's own thread, from the machine's view; what touches disks (a submit, a
dry run, a retry, logs) is answered in the background. A request may come again to a successor: whatever is
done here is idempotent by the job's id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mrq.core import events as e
from mrq.core import wire
from mrq.core.answers import error_answer, packed
from mrq.core.backoff import Retry
from mrq.core.model import NO_LIMITS, JobState, Limits, WorkerHealth
from mrq.core.store_api import ClientRequest
from mrq.errors import MrqError, OperatorError, UsageTypeError, UsageValueError
from mrq.io import inputs
from mrq.io.plan import Draft
from mrq.master.background import Background
from mrq.master.finishing import JobFinisher
from mrq.master.job_events import JobEvents
from mrq.master.known_jobs import KnownJobs, nobody
from mrq.master.loop import Master
from mrq.master.shared import SharedRoot
from mrq.master.submissions import Submissions
from mrq.master.task_logs import TaskLogs
from mrq.master.views import Views
from mrq.ports import RequestQueue
from mrq.settings.checks import nearest

_READ_S: Final = 5.0

_Answer = Mapping[str, Any]


@dataclass(eq=False, kw_only=True)
class RequestHandler:
    """One leadership's. Its methods raise the MrqError that a question is answered with."""

    master: Master
    views: Views
    jobs: KnownJobs
    submits: Submissions
    finisher: JobFinisher
    events: JobEvents
    logs: TaskLogs
    shared: SharedRoot

    def __post_init__(self) -> None:
        self._quick: dict[str, Callable[[_Answer], _Answer]] = {
            "jobs": lambda args: {"jobs": self.jobs.all(), "now": time.time()},
            "status": self._status,
            "workers": self._workers,
            "cancel": self._cancel,
            "drain": lambda args: self._order(args, e.DrainRequested, WorkerHealth.DRAINING),
            "quarantine": lambda args: self._order(args, e.QuarantineRequested, WorkerHealth.QUARANTINED),
            "readmit": lambda args: self._order(args, e.ReadmitRequested, WorkerHealth.ALIVE),
            "read": self._read,
        }
        self._long: dict[str, Callable[[_Answer], _Answer]] = {
            "submit": lambda args: self.submits.submit(wire.from_wire(Draft, args["draft"])),
            "plan": lambda args: self.submits.plan(wire.from_wire(Draft, args["draft"])),
            "retry": self._retry,
            "logs": self._log,
        }

    def takes_long(self, op: str) -> bool:
        """Does a question touch disks, or wait for others?"""
        return op in self._long

    def announce(self, op: str, args: _Answer) -> None:
        """A request that will be handled in a moment: of a submit, so that its job can be taken back."""
        if op == "submit":
            self.submits.announce(str(args["draft"][0][0]))

    def handle(self, op: str, args: _Answer) -> _Answer:
        """The answer to a question. Raises the MrqError that it is answered with."""
        work = self._quick.get(op) or self._long.get(op)
        if work is None:
            known = (*self._quick, *self._long)
            raise UsageValueError(f"the leader knows no {op!r}{nearest(op, known)}")
        try:
            return work(args)
        except MrqError:
            raise
        except (KeyError, TypeError, ValueError) as exc:
            raise UsageTypeError(f"{op} was asked for with wrong arguments: {exc!r}") from exc

    def _status(self, args: _Answer) -> _Answer:
        found = self.jobs.status(str(args["job"]), tasks=bool(args.get("tasks")))
        return {"jobs": [found], "now": time.time()}

    def _workers(self, args: _Answer) -> _Answer:
        wanted = args.get("worker")
        found = self.views.workers(everybody=wanted is not None)
        if wanted is not None:
            chosen = [w for w in found if w.worker == wanted]
            if not chosen:
                raise nobody("worker", str(wanted), (w.worker for w in found))
            found = chosen
        return {"leader": self.views.leader, "workers": found, "now": time.time()}

    def _cancel(self, args: _Answer) -> _Answer:
        job = str(args["job"])
        state = self.jobs.cancel(job, str(args.get("reason") or "cancelled"))
        if state is None and self.submits.take_back(job):
            state = JobState.PENDING
        if state is None:
            raise self.jobs.unknown(job)
        return {"state": state.value}

    def _retry(self, args: _Answer) -> _Answer:
        """Go on with a failed job. Raises UsageError, InputError, OutputError."""
        job = str(args["job"])
        told = args.get("limits")  # none from an earlier mrq
        limits = NO_LIMITS if told is None else wire.from_wire(Limits, told)
        spec = self.jobs.failed(job)
        known = spec or self.master.spec(job)
        if known is not None:
            limits.check(known)
        if spec is not None:
            inputs.refuse_changed(job, spec)
            self.finisher.reopen(spec, limits)
        self.events.resumed(job)
        return {"state": JobState.RUNNING.value}

    def _order(self, args: _Answer, event: type, health: WorkerHealth) -> _Answer:
        worker = str(args["worker"])
        known = self.views.healths()
        if worker not in known:
            raise nobody("worker", worker, known)
        self.master.settle(event(worker=worker))
        return {"worker": worker, "health": self.views.healths().get(worker, health).value}

    def _read(self, args: _Answer) -> _Answer:
        data, size = self.shared.read(str(args["job"]), int(args["part"]), int(args["offset"]))
        return {"data": data, "size": size}

    def _log(self, args: _Answer) -> _Answer:
        job = str(args["job"])
        found = self.logs.logs(job, args.get("task"))
        if found is None:
            raise self.jobs.unknown(job)
        return {"logs": found}


class RequestLoop:
    """Takes a cluster's requests for one term of leadership."""

    def __init__(self, desk: RequestQueue, handler: RequestHandler, background: Background) -> None:
        self._desk = desk
        self._handler = handler
        self._background = background
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mrq-requests", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Take no more, and answer no more: whatever is under way comes again to the successor."""
        self._stopping = True
        self._desk.close()

    def join(self) -> None:
        """Wait until the thread has ended; it may be waiting for the leader's loop, which is to end first."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        retry = Retry()
        while not self._stopping:
            try:
                for request in self._desk.requests(_READ_S):
                    self._take(request)
                retry.worked()
            except MrqError:
                if not self._stopping:
                    time.sleep(retry.failed())

    def _take(self, request: ClientRequest) -> None:
        if self._handler.takes_long(request.op):
            self._handler.announce(request.op, request.args)
            self._background.do(lambda: self._answer(request))
        else:
            self._answer(request)

    def _answer(self, request: ClientRequest) -> None:
        """Answer a request, and forget it. A store that is away leaves it to be asked again."""
        try:
            answer = packed(request.op, self._handler.handle(request.op, request.args))
        except Exception as exc:  # noqa: BLE001 a bug answers its question, and the loop goes on
            answer = error_answer(exc)
        retry = Retry()
        while not self._stopping:
            try:
                self._desk.answer(request.id, answer)
                self._desk.remove(request.id)
            except OperatorError:
                time.sleep(retry.failed())
            else:
                return
