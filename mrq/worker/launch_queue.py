"""Attempts between their start and their executor: the job is looked up, a reduce's sources are fetched.

They hold their slot and are on the beats, but have no process yet. One thread owns it, the agent's loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mrq.core import agent_words as a
from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.refs import AttemptRef, Kind
from mrq.errors import DiskFullError, MrqError, OperatorError, WorkerFolderError
from mrq.worker import folders
from mrq.worker.attempt_order import MapSource
from mrq.worker.attempts import Attempts
from mrq.worker.calls import Calls, JobFound
from mrq.worker.debug import DebugSwitch
from mrq.worker.fetch.messages import Fetched, FetchFailed, FetchProgressed
from mrq.worker.job_files import FetchedJob, JobFiles, MissingMaps

if TYPE_CHECKING:
    from mrq.worker.agent_loop import AgentLoop
    from mrq.worker.fetch.data_plane import DataPlane

#: The phase in beats.
_SHUFFLING: Final = "shuffling"


class LaunchQueue:
    """Takes each Start to an executor or to an end; exactly one call of the loop's `ended` follows,
    here or from `attempts`."""

    def __init__(
        self,
        *,
        files: JobFiles,
        calls: Calls,
        attempts: Attempts,
        data_plane: DataPlane | None,
        debug: DebugSwitch | None,
        loop: AgentLoop,
    ) -> None:
        """Without a data plane reduces read map outputs where they lie."""
        self._files = files
        self._calls = calls
        self._attempts = attempts
        self._data_plane = data_plane
        self._debug = debug
        self._loop = loop
        self._tasks = 0  #: that reached an executor, for MRQ_DEBUG
        #: By job and the number of its stage's run, then token.
        self._lookups: dict[tuple[str, int], dict[str, a.Start]] = {}
        self._fetching: dict[str, a.Start] = {}  #: by token
        self._fetched: dict[str, AttemptRef] = {}  #: by token: they run on what was fetched

    def __len__(self) -> int:
        """Those that wait."""
        return len(self._fetching) + sum(map(len, self._lookups.values()))

    def start(self, command: a.Start) -> None:
        """Begin with one; what prevents it becomes its outcome."""
        if self._files.ready(command.message):
            self._prepare(command)
            return
        task = command.message.task
        waiting = self._lookups.setdefault((task.job, task.stage), {})
        waiting[command.attempt.token] = command
        if len(waiting) == 1:
            self._look_up(task.job, task.stage)

    def kill(self, token: str) -> None:
        """End one, wherever it is; its outcome still comes."""
        if self._take(token) is None:
            self._attempts.kill(token)
        else:
            self._end(token, Outcome(status=Status.SUPERSEDED, started=False))

    def hand_back(self) -> None:
        """Somebody else shall take what hasn't begun."""
        for token in [*self._fetching, *(t for waiting in self._lookups.values() for t in waiting)]:
            self._take(token)
            self._end(token, Outcome(status=Status.HANDED_BACK, started=False))

    def forget(self, job: str) -> None:
        """The job is over."""
        of_it = [key for key in self._lookups if key[0] == job]
        late = [token for key in of_it for token in self._lookups.pop(key)]
        late += [token for token, command in self._fetching.items() if command.message.task.job == job]
        for token in late:
            self._take(token)
            self._end(token, Outcome(status=Status.SUPERSEDED, started=False))
        if self._data_plane is not None:
            self._data_plane.forget(job)

    def over(self, token: str) -> None:
        """An attempt that ran has ended: what was fetched for it goes."""
        attempt = self._fetched.pop(token, None)
        if attempt is not None:
            assert self._data_plane is not None
            self._data_plane.discard(attempt)

    def found(self, event: JobFound) -> None:
        """A job was found, or not."""
        waiting = self._lookups.pop((event.job, event.stage), None)
        if not waiting:
            return  # all were killed: nobody wants to know
        error = event.error
        if isinstance(event.found, FetchedJob):
            try:
                if not self._files.add(event.found):
                    self._lookups[event.job, event.stage] = waiting
                    self._look_up(event.job, event.stage)
                    return
            except MrqError as exc:
                error = exc
        for token, command in waiting.items():
            if error is not None:
                self._fail(command, error)
            elif event.found is None:  # the job is over
                self._end(token, Outcome(status=Status.SUPERSEDED, started=False))
            else:
                self._prepare(command)

    def _look_up(self, job: str, stage: int) -> None:
        self._calls.find_job(job, lambda: self._files.find(job, stage), stage)

    def heard(self, event: FetchProgressed | Fetched | FetchFailed) -> None:
        """What the data plane says of one that waits; of others it is too late."""
        if event.token not in self._fetching:
            return
        match event:
            case FetchProgressed():
                self._show(event.token, event.fraction, event.bytes)
            case Fetched():
                command = self._fetching.pop(event.token)
                self._fetched[event.token] = command.attempt
                self._run(command, event.sources)
            case FetchFailed(outcome=outcome):
                job = self._fetching.pop(event.token).message.task.job
                self._end(event.token, self._attempts.mended(job, outcome) if outcome.disk else outcome)

    def _prepare(self, command: a.Start) -> None:
        message, token = command.message, command.attempt.token
        if self._data_plane is None or message.task.kind is Kind.MAP:
            self._run(command, None)
            return
        self._fetching[token] = command
        self._show(token, 0.0, 0)
        self._data_plane.fetch(command.attempt, self._files.maps(message))

    def _run(self, command: a.Start, sources: tuple[MapSource, ...] | None) -> None:
        token = command.attempt.token
        try:
            order, code = self._files.order(command.message, command.attempt, sources)
        except MissingMaps as exc:
            self._end(token, Outcome(status=Status.FETCH_FAILED, fetch_failures=exc.failures, started=False))
            return
        except MrqError as exc:
            self._fail(command, exc)
            return
        self._tasks += 1
        due = self._debug is not None and self._tasks == self._debug.after + 1
        self._attempts.start(order, code, self._debug.fault if due and self._debug is not None else None)

    def _fail(self, command: a.Start, exc: MrqError) -> None:
        token, full = command.attempt.token, isinstance(exc, DiskFullError)
        if isinstance(exc, WorkerFolderError):
            self._end(token, self._attempts.mended(command.message.task.job, folders.outcome(str(exc))))
            return
        # A job's code that is damaged will stay so; a store that is away comes back.
        charged = not full and (not isinstance(exc, OperatorError) or self._attempts.bad_start())
        error = ErrorReport(type=type(exc).__name__, message=str(exc))
        self._end(
            token, Outcome(status=Status.DISK_FULL if full else Status.LOST, error=error, started=charged)
        )

    def _take(self, token: str) -> a.Start | None:
        """Out of what waits, with what is being fetched for it."""
        command = self._fetching.pop(token, None)
        if command is not None:
            assert self._data_plane is not None
            self._data_plane.discard(command.attempt)
            return command
        for waiting in self._lookups.values():
            if token in waiting:
                return waiting.pop(token)
        return None

    def _end(self, token: str, outcome: Outcome) -> None:
        self.over(token)
        self._loop.ended(token, outcome)

    def _show(self, token: str, fraction: float, fetched: int) -> None:
        self._loop.progressed(
            a.AttemptProgressed(token=token, fraction=fraction, phase=_SHUFFLING, records=0, bytes=fetched)
        )
