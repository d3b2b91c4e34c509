"""The leader's desk: takes clients' requests in order, answers them, and forgets them once what they asked
for is persisted.

Questions are answered on the desk's own thread, from the machine's view; what touches disks (a submit, a
dry run, a retry, logs) goes to `slow` and is answered from there. A request may come again to a successor:
whatever is done here is idempotent by the job's id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Protocol

from mrq.core import events as e
from mrq.core import wire
from mrq.core.answers import error_answer, packed
from mrq.core.model import NO_LIMITS, JobState, Limits, WorkerHealth
from mrq.errors import MrqError, OperatorError, UsageError
from mrq.job.setting_checks import nearest
from mrq.master.archive import Archive
from mrq.master.logbook import Logbook
from mrq.master.shared import SharedRoot
from mrq.master.submits import Submits
from mrq.master.views import Views
from mrq.ports import ClientRequest, Desk

_READ_S: Final = 5.0
_AGAIN_S: Final = 0.5

_Answer = Mapping[str, Any]


class Acting(Protocol):
    """What the desk may ask the loop to do."""

    def sink(self, event: e.Event) -> None:
        """Let the machine decide."""
        ...

    def settle(self, event: e.Event) -> None:
        """The same, and wait until what followed is persisted. Raises OperatorError."""
        ...


class Office:
    """Serves one desk for one term of leadership."""

    def __init__(
        self,
        *,
        desk: Desk,
        acting: Acting,
        views: Views,
        archive: Archive,
        submits: Submits,
        retry: Callable[[str, Limits], None],
        logs: Logbook,
        shared: SharedRoot,
        slow: Callable[[Callable[[], None]], None],
    ) -> None:
        self._desk = desk
        self._acting = acting
        self._views = views
        self._archive = archive
        self._submits = submits
        self._retry = retry
        self._logs = logs
        self._shared = shared
        self._slow = slow
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mrq-desk", daemon=True)
        self._quick: dict[str, Callable[[_Answer], _Answer]] = {
            "jobs": self._jobs,
            "status": self._status,
            "workers": self._workers,
            "cancel": self._cancel,
            "drain": lambda args: self._order(args, e.DrainRequested, WorkerHealth.DRAINING),
            "quarantine": lambda args: self._order(args, e.QuarantineRequested, WorkerHealth.QUARANTINED),
            "readmit": lambda args: self._order(args, e.ReadmitRequested, WorkerHealth.ALIVE),
            "read": self._read,
        }
        self._long: dict[str, Callable[[_Answer], _Answer]] = {
            "submit": submits.submit,
            "plan": submits.plan,
            "retry": self._go_on,
            "logs": self._log,
        }

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Take no more, and answer no more: whatever is under way comes again to the successor."""
        self._stopping = True
        self._desk.close()

    def join(self) -> None:
        """Wait until the desk's thread has ended; it may be waiting for the loop, which is to end first."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                for request in self._desk.requests(_READ_S):
                    self._take(request)
            except MrqError:
                if not self._stopping:
                    time.sleep(_AGAIN_S)

    def _take(self, request: ClientRequest) -> None:
        quick, long = self._quick.get(request.op), self._long.get(request.op)
        if quick is not None:
            self._do(request, quick)
        elif long is not None:
            if request.op == "submit":
                self._submits.announce(request.args)
            self._slow(lambda: self._do(request, long))
        else:
            self._do(request, self._unknown(request.op))

    def _do(self, request: ClientRequest, work: Callable[[_Answer], _Answer]) -> None:
        """Do it, answer, and forget the request. A store that is away leaves it to be asked again."""
        try:
            answer = packed(request.op, work(request.args))
        except MrqError as exc:
            answer = error_answer(exc)
        except (KeyError, TypeError, ValueError) as exc:
            answer = error_answer(UsageError(f"{request.op} was asked for with wrong arguments: {exc!r}"))
        except Exception as exc:  # noqa: BLE001 a bug answers its question, and the desk goes on
            answer = error_answer(exc)
        while not self._stopping:
            try:
                self._desk.answer(request.id, answer)
                self._desk.remove(request.id)
            except OperatorError:
                time.sleep(_AGAIN_S)
            else:
                return

    def _unknown(self, op: str) -> Callable[[_Answer], _Answer]:
        def refuse(args: _Answer) -> _Answer:
            raise UsageError(
                f"this cluster's master knows no {op!r}{nearest(op, (*self._quick, *self._long))}"
            )

        return refuse

    # What is asked.

    def _jobs(self, args: _Answer) -> _Answer:
        found = {info.job: info for info in (*self._archive.jobs(), *self._views.jobs())}
        return {"jobs": list(found.values()), "now": time.time()}

    def _status(self, args: _Answer) -> _Answer:
        job, tasks = str(args["job"]), bool(args.get("tasks"))
        found = self._views.status(job, tasks=tasks) or self._archive.status(job, tasks=tasks)
        if found is None:
            raise self._no_job(job)
        return {"jobs": [found], "now": time.time()}

    def _workers(self, args: _Answer) -> _Answer:
        wanted = args.get("worker")
        found = self._views.workers(everybody=wanted is not None)
        if wanted is not None:
            chosen = [w for w in found if w.worker == wanted]
            if not chosen:
                raise nobody("worker", str(wanted), (w.worker for w in found))
            found = chosen
        return {"leader": self._views.leader, "workers": found, "now": time.time()}

    def _cancel(self, args: _Answer) -> _Answer:
        job = str(args["job"])
        found = self._views.active(job)
        if found is not None:
            self._acting.settle(e.CancelRequested(job=found, reason=str(args.get("reason") or "cancelled")))
        state = self._views.state(job) or self._archive.state(job)
        if state is not None:
            return {"state": state.value}
        if self._submits.take_back(job):
            return {"state": JobState.PENDING.value}
        raise self._no_job(job)

    def _go_on(self, args: _Answer) -> _Answer:
        job = str(args["job"])
        told = args.get("limits")  # none from an earlier mrq
        self._retry(job, NO_LIMITS if told is None else wire.from_wire(Limits, told))
        return {"state": JobState.RUNNING.value}

    def _order(self, args: _Answer, event: type, health: WorkerHealth) -> _Answer:
        worker = str(args["worker"])
        known = self._views.names()
        if worker not in known:
            raise nobody("worker", worker, known)
        self._acting.settle(event(worker=worker))
        now = self._views.health(worker)
        return {"worker": worker, "health": (now or health).value}

    def _read(self, args: _Answer) -> _Answer:
        data, size = self._shared.read(str(args["job"]), int(args["part"]), int(args["offset"]))
        return {"data": data, "size": size}

    def _log(self, args: _Answer) -> _Answer:
        job = str(args["job"])
        found = self._logs.logs(job, args.get("task"))
        if found is None:
            raise self._no_job(job)
        return {"logs": found}

    def _no_job(self, job: str) -> UsageError:
        if self._archive.expired(job):
            return UsageError(
                f"job {job} is over for longer than jobs are kept (--keep): nothing is known of it"
            )
        known = {info.job for info in (*self._archive.jobs(), *self._views.jobs())}
        return nobody("job", job, known)


#: More names than this aren't listed in an error.
_NAMED: Final = 8


def nobody(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The refusal of a name that isn't known, with the nearest that is."""
    names = sorted(known)
    if len(names) > _NAMED and not get_close_matches(name, names, n=1, cutoff=0.5):
        return UsageError(
            f"there is no {what} {name!r} on this cluster, which knows {len(names):,} others: `mrq {what}s` "
            "lists them"
        )
    if not names:
        return UsageError(f"there is no {what} {name!r} on this cluster, which knows none at all")
    return UsageError(f"there is no {what} {name!r} on this cluster{nearest(name, names)}")
