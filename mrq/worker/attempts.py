"""The attempts that an agent runs: their executors, pages, logs and folders, from start to outcome.

An executor runs its attempts one after another. Where more are started than there are slots, they wait behind
others of the same code, in the executor's pipe, so that it goes on without asking. One that hasn't begun can
be taken back, and if the executor dies another takes it over: nothing of it has happened.

One thread owns it, through a selector. Each attempt that `start` takes ends in exactly one call of its loop's
`ended`, whatever its executor does: the pipe tells outcomes, the pidfd tells deaths (the user's own children
may hold the pipe), the progress page tells silence.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from mrq.core import agent_words as a
from mrq.core import wire
from mrq.core.model import ErrorReport, JobSpec, Outcome, Slots, Status
from mrq.core.refs import Kind
from mrq.io import disk
from mrq.worker import attempt_logs, exits, folders, progress_page, protocol, scratch
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.child import START_S_MAX
from mrq.worker.debug import Fault
from mrq.worker.pool import ExecutorProcess, Pool

if TYPE_CHECKING:
    from mrq.worker.agent_loop import AgentLoop

#: Between asking a silent executor for its stack and killing it.
_STACK_WAIT_S: Final = 0.3
#: A longer gap between two looks at the pages means that this process, or the machine, stood still.
_GAP_S_MAX: Final = 5.0
#: So many starts of an executor that fail in a row are no accident: the attempt is charged, so that it ends.
_BAD_STARTS_MAX: Final = 3
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Stage(enum.Enum):
    RUNNING = "running"
    ASKED = "asked"  # silent for too long: asked for its stack
    KILLED = "killed"


@dataclass(slots=True, eq=False)
class _Running:
    order: AttemptOrder
    code: str  #: the folder of its job's bundle
    fault: Fault | None
    view: memoryview[int]
    position: tuple[int, ...]
    moved_at: float  #: when the page last changed
    number: int = 0  #: of its order to the executor
    stage: _Stage = _Stage.RUNNING
    began: bool = False  #: the executor said so
    silent: bool = False  #: killed for it
    stack_from: int = 0  #: where in the log the stack begins that was asked for
    why: str = ""  #: what the agent knows about the end


@dataclass(slots=True, eq=False)
class _Line:
    """A busy executor, and what it was given, in order: it works on the first."""

    executor: ExecutorProcess
    code: str
    kind: Kind
    given: deque[_Running] = field(default_factory=deque)
    served: bool = False  #: one of them has ended


class Attempts:
    """Everything that runs on this worker, for its loop, on whose thread all happens."""

    def __init__(
        self,
        *,
        pool: Pool,
        loop: AgentLoop,
        slots: Slots,
        selector: selectors.BaseSelector,
        now: Callable[[], float],
        keep_logs: bool = False,
        quota: str = "",
    ) -> None:
        """`keep_logs`: also those of attempts that went well, until `forget`. `quota` is the path of the page
        of the disk's quota (`worker.quota`), if there is one."""
        self._loop = loop
        self._quota = quota
        self._now = now
        self._kept = attempt_logs.KeptLogs() if keep_logs else None
        self._pool = pool
        self._selector = selector
        self._slots = slots
        self._running: dict[str, _Running] = {}  #: by token
        self._lines: list[_Line] = []
        self._unsent: set[ExecutorProcess] = set()
        self._watched_at: float | None = None
        self._bad_starts = 0
        self._scratches = scratch.Scratches()
        self._specs: dict[str, tuple[JobSpec, bytes]] = {}  #: and as executors get it, by job
        self._memory = exits.MemoryWatch()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, order: AttemptOrder, code: str, fault: Fault | None = None) -> None:
        """Run an attempt; `code` is the folder of its job's bundle. Never raises for what it meets: that is
        the attempt's outcome."""
        try:
            order, view = self._made(order)
        except OSError as exc:
            self._cannot_start(order, exc, folder=True)
            return
        running = _Running(order, code, fault, view, tuple(view), self._now())
        self._running[order.attempt.token] = running
        self._place(running)

    def _made(self, order: AttemptOrder) -> tuple[AttemptOrder, memoryview[int]]:
        """With its folder, for which the job's are made again if need be. Raises OSError."""
        try:
            return self._scratches.make(order)
        except OSError as exc:
            if exc.errno in _FULL or self._loop.mend(order.spec.job) is not None:
                raise
        return self._scratches.make(order)

    def _place(self, running: _Running) -> None:
        """Give it to an executor that is free, or to the one of its code that has the least to do."""
        order, kind = running.order, running.order.task.kind
        slots = self._slots.map if kind is Kind.MAP else self._slots.reduce
        line = None
        if sum(1 for each in self._lines if each.kind is kind) >= slots:
            busy = [each for each in self._lines if (each.code, each.kind) == (running.code, kind)]
            alive = [each for each in busy if each.executor.alive]
            line = min(alive, key=lambda each: len(each.given), default=None)
        if line is None:
            try:
                line = _Line(self._pool.take(running.code), running.code, kind)
            except OSError as exc:
                del self._running[order.attempt.token]
                running.view.release()
                self._cannot_start(order, exc)
                return
            self._lines.append(line)
            line.executor.attach(
                self._selector, heard=partial(self._readable, line), ended=partial(self._dead, line)
            )
        self._give(line, running)

    def _give(self, line: _Line, running: _Running) -> None:
        order, spec = running.order, running.order.spec
        line.given.append(running)
        running.moved_at = self._now()
        packed = self._specs.get(spec.job)
        if packed is None or packed[0] is not spec:
            packed = self._specs[spec.job] = spec, protocol.pack_spec(spec)
        message: dict[str, object] = {
            "op": protocol.RUN,
            "token": order.attempt.token,
            "order": wire.to_wire(order, {"spec": None}),  # in a form of its own, made once a job
            "spec": packed[1],
            "code": running.code,
        }
        if running.fault is not None:
            message["fault"] = running.fault.value
        if self._quota:
            message["quota"] = self._quota
        try:
            running.number = line.executor.order(message)
        except protocol.ProtocolError as exc:
            self._break_off(line, str(exc))
        self._unsent.add(line.executor)

    def flush(self) -> None:
        """Write what executors were sent; before the owner waits for anything."""
        for executor in self._unsent:
            executor.flush()
        self._unsent.clear()

    def kill(self, token: str) -> None:
        """End an attempt; its outcome still comes. One that has just begun behind others is killed once those
        are heard of."""
        running = self._running.get(token)
        for line in self._lines:
            if running is None or running not in line.given:
                continue
            head = running is line.given[0]
            if not head and line.executor.alive and line.executor.take_back(running.number):
                self._unsent.add(line.executor)
                line.given.remove(running)
                self._finish(running, Outcome(status=Status.SUPERSEDED, started=False), reusable=True)
                return
            running.stage = _Stage.KILLED
            if head:
                line.executor.kill()
            return

    def watch(self, now: float) -> float:
        """Look at every page and log: tell progress, end what is silent. Returns when to look again."""
        gap = 0.0 if self._watched_at is None else now - self._watched_at
        self._watched_at = now
        due = float("inf")
        for line in [each for each in self._lines if each.given]:
            running = line.given[0]
            if gap > _GAP_S_MAX:
                running.moved_at += gap
            position = tuple(running.view)
            if position != running.position:
                running.position, running.moved_at = position, now
                self._loop.progressed(_progress(running.order, position))
            attempt_logs.cap(running.order.log_path)
            line.executor.sample_rss()
            due = min(due, self._watch_silence(line, running, now))
        self._pool.reap()
        return due

    def forget(self, job: str) -> None:
        """Of a job that is over: its folder is being deleted."""
        self._scratches.forget(job)
        self._specs.pop(job, None)
        if self._kept is not None:
            self._kept.forget(job)

    def close(self) -> None:
        """Kill what is left and remove its folders; no outcome is told any more."""
        self._scratches.close()
        for line in self._lines:
            line.executor.kill()
        for line in self._lines:
            line.executor.detach()
            self._pool.discard(line.executor)
            for running in line.given:
                scratch.clean(running.order, keep_log=False)
        self._lines.clear()
        self._unsent.clear()
        self._running.clear()

    def _watch_silence(self, line: _Line, running: _Running, now: float) -> float:
        """When this attempt is due for the next step towards its end."""
        limit = running.order.spec.progress_timeout_s
        match running.stage:
            case _Stage.KILLED:
                return float("inf")
            case _Stage.RUNNING if not running.began:
                if now - running.moved_at < START_S_MAX:
                    return running.moved_at + START_S_MAX
                self._break_off(line, f"the executor wasn't ready after {START_S_MAX:g} s")
                return float("inf")
            case _Stage.RUNNING:
                if now - running.moved_at < limit:
                    return running.moved_at + limit
                running.stage, running.silent = _Stage.ASKED, True
                running.stack_from = attempt_logs.size(running.order.log_path)
                running.moved_at = now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(line.executor.pid, signal.SIGUSR1)
            case _Stage.ASKED:
                if now - running.moved_at >= _STACK_WAIT_S:
                    running.stage = _Stage.KILLED
                    line.executor.kill()
                    return float("inf")
        return running.moved_at + _STACK_WAIT_S

    # What executors say.

    def _readable(self, line: _Line) -> None:
        try:
            messages = line.executor.receive()
            if messages is None:
                return
            for message in messages:
                self._hear(line, message)
        except (protocol.ProtocolError, KeyError) as exc:
            self._break_off(line, f"its messages can't be understood: {exc}")
            return
        if not line.given and line.executor.alive:
            self._take_over(line)
        if not line.given and line.executor.alive:
            self._lines.remove(line)
            line.executor.detach()
            self._pool.put_back(line.executor)

    def _take_over(self, line: _Line) -> None:
        """An executor with nothing to do gets half of what waits behind others of its code."""
        others = [each for each in self._lines if (each.code, each.kind) == (line.code, line.kind)]
        longest = max(others, key=lambda each: len(each.given))
        for running in list(longest.given)[(len(longest.given) + 1) // 2 :]:
            if longest.executor.alive and longest.executor.take_back(running.number):
                self._unsent.add(longest.executor)
                longest.given.remove(running)
                self._give(line, running)

    def _hear(self, line: _Line, message: dict[str, object]) -> None:
        if message["op"] == protocol.READY:
            return
        token = str(message["token"])
        running = line.given[0] if line.given else None
        if running is None or token != running.order.attempt.token:
            raise protocol.ProtocolError(f"an answer about {token!r}, which isn't the order at hand")
        match message["op"]:
            case protocol.STARTED:
                self._bad_starts = 0
                running.began, running.moved_at = True, self._now()
                self._loop.began(token)
            case protocol.OUTCOME:
                try:
                    outcome = wire.from_wire(Outcome, message["outcome"])
                except Exception as exc:
                    raise protocol.ProtocolError(f"an outcome isn't one: {exc}") from exc
                line.executor.threads = bool(message["threads"])
                line.served = True
                line.given.popleft()
                doomed = False
                if line.given:
                    line.given[0].moved_at = self._now()
                    doomed = line.given[0].stage is _Stage.KILLED
                if message["retire"] or doomed:
                    line.executor.kill()  # others take over what waits
                self._finish(running, outcome, reusable=line.executor.alive)
            case other:
                raise protocol.ProtocolError(f"an agent doesn't know {other!r}")

    def _break_off(self, line: _Line, why: str) -> None:
        if line.given:
            line.given[0].why = why
            line.given[0].stage = _Stage.KILLED
        line.executor.kill()

    def _dead(self, line: _Line) -> None:
        """The process has ended; what it said before still counts. Others take over what hadn't begun."""
        with contextlib.suppress(protocol.ProtocolError, KeyError):
            while messages := line.executor.receive():
                for message in messages:
                    self._hear(line, message)
        self._lines.remove(line)
        self._unsent.discard(line.executor)
        line.executor.detach()
        ended = line.executor.reap()
        self._pool.discard(line.executor)
        assert ended is not None
        head = line.given[0] if line.given else None
        if head is not None and (head.began or head.stage is _Stage.KILLED or not line.served):
            running = line.given.popleft()
            self._finish(running, self._outcome(line, running, ended), reusable=False)
        for running in line.given:
            if running.stage is _Stage.KILLED:
                self._finish(running, Outcome(status=Status.SUPERSEDED, started=False), reusable=False)
            else:
                self._place(running)

    def _outcome(self, line: _Line, running: _Running, ended: exits.Exit) -> Outcome:
        """Of one whose executor died over it."""
        if not running.silent:
            started, oom = running.began or self.bad_start(), self._memory.struck()
            position = tuple(running.view)
            return exits.lost(running.order, ended, position, started=started, oom=oom, why=running.why)
        text = attempt_logs.tail(
            running.order.log_path, start=running.stack_from, bytes_max=1 << 16, lines_max=1000
        )
        stack = exits.split_stack(text)[1]
        return exits.timed_out(running.order, tuple(running.view), stack, line.executor.peak_rss_bytes)

    def bad_start(self) -> bool:
        """Count an attempt that couldn't be begun; whether it is one too many, and to be charged."""
        self._bad_starts += 1
        return self._bad_starts >= _BAD_STARTS_MAX

    def _finish(self, running: _Running, outcome: Outcome, *, reusable: bool) -> None:
        """Told. `reusable`: its executor lives, so nothing writes into its folders any more."""
        order = running.order
        if outcome.disk:
            outcome = self.mended(order.spec.job, outcome)
        logged = attempt_logs.size(order.log_path)
        if logged > attempt_logs.LOG_BYTES_MAX:
            attempt_logs.cap(order.log_path)
        failed = outcome.status in (Status.FAILED, Status.TIMED_OUT, Status.LOST)
        keep_log = failed and not (running.stage is _Stage.KILLED and not running.silent and not running.why)
        if keep_log:
            outcome = exits.with_log(outcome, order.log_path)
        outcome = exits.with_source_paths(outcome, running.code, order.spec.source_root)
        if keep_log and outcome.error is not None:
            attempt_logs.append(order.log_path, exits.as_text(outcome.error))
        del self._running[order.attempt.token]
        if self._kept is not None and outcome.status is Status.DONE and logged:
            self._kept.keep(order.spec.job, order.log_path)
            keep_log = True
        if reusable:
            self._scratches.give_back(order, running.view, keep_log=keep_log, empty_log=not logged)
        else:
            scratch.clean(order, keep_log=keep_log)
        if outcome.status is not Status.DONE:
            scratch.remove_output(order)
        self._loop.ended(order.attempt.token, outcome)

    def mended(self, job: str, outcome: Outcome) -> Outcome:
        """Make a job's folders again, which failed an attempt; its outcome says so where that can't be."""
        why = self._loop.mend(job)
        if why is None or outcome.error is None:
            return outcome
        said = outcome.error.message
        message = why if "is gone" in said else f"{said}; {why}"  # what is gone lay in what is gone
        return replace(outcome, error=replace(outcome.error, message=message))

    def _cannot_start(self, order: AttemptOrder, exc: OSError, *, folder: bool = False) -> None:
        """No folder, or no process, for it."""
        full = exc.errno in _FULL
        if folder and not full:
            path = exc.filename or order.scratch
            said = f"{path}, of this worker's own folders, can't be made: {exc.strerror}"
            self._loop.ended(order.attempt.token, self.mended(order.spec.job, folders.outcome(said)))
            return
        if full:
            message = str(disk.named(exc, order.scratch))
        else:
            message = f"no executor could be started: {exc}; processes, memory or open files may have run out"
        error = ErrorReport(type=type(exc).__name__, message=message)
        started = False if full else self.bad_start()
        status = Status.DISK_FULL if full else Status.LOST
        scratch.clean(order, keep_log=False)
        self._loop.ended(order.attempt.token, Outcome(status=status, error=error, started=started))


def _progress(order: AttemptOrder, position: tuple[int, ...]) -> a.AttemptProgressed:
    """What a page shows of an attempt."""
    (records, done), total, phase = (
        progress_page.consumed(position),
        position[progress_page.TOTAL],
        position[progress_page.PHASE],
    )
    return a.AttemptProgressed(
        token=order.attempt.token,
        fraction=min(max(done / total, 0.0), 1.0) if total > 0 else 0.0,
        phase=progress_page.PHASES[phase] if 0 <= phase < len(progress_page.PHASES) else "",
        records=records,
        bytes=done,
        at=exits.at_hand(order, position) if order.alone else "",
    )
