"""Attempts that run on the thread of whoever waits for their job, for tests: user code meets the debugger,
the coverage and the exceptions of the caller's own process.

The agent's loop starts, ends and reports them as it does those of executors; `work` runs them, one after the
other.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mrq.core.model import Outcome, Status
from mrq.job.base import Job
from mrq.worker import progress_page, scratch
from mrq.worker.agent_loop import AgentLoop
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.attempts import Attempts
from mrq.worker.debug import Fault
from mrq.worker.pool import Pool
from mrq.worker.tasks.runner import run_attempt


class CallersPool(Pool):
    """No executors: the caller's thread is the only one that runs user code."""

    def __init__(self, fresh: Callable[[AttemptOrder], Job]) -> None:
        """`fresh` makes the job for one attempt."""
        super().__init__()
        self._fresh = fresh
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._attempts: CallersAttempts
        self._loop: AgentLoop

    def prewarm(self, count: int) -> None:
        """There is nothing to start."""

    def attempts(self, *, loop: AgentLoop, **parts: Any) -> CallersAttempts:
        """See `Pool`."""
        self._loop = loop
        self._attempts = CallersAttempts(self._waiting.put, pool=self, loop=loop, **parts)
        return self._attempts

    def end(self) -> None:
        """Let `work` return. From any thread."""
        self._waiting.put(None)

    def work(self) -> None:
        """Run what comes until `end`. Raises what user code raises, unless it is tried again, record by
        record."""
        while (waiting := self._waiting.get()) is not None:
            if not waiting.wanted:
                continue
            order, raised = waiting.order, list[BaseException]()
            self._loop.post(lambda waiting=waiting: self._attempts.begin(waiting))  # type: ignore[misc]
            outcome = run_attempt(
                order, self._fresh(order), progress_page.open_page(order.page_path), raised=raised.append
            )
            self._loop.post(lambda waiting=waiting, outcome=outcome: self._attempts.end(waiting, outcome))  # type: ignore[misc]
            for exc in raised:
                if order.careful or not order.spec.skip_bad_records or not isinstance(exc, Exception):
                    raise exc


@dataclass(eq=False, slots=True)
class _Waiting:
    """An attempt that was started."""

    order: AttemptOrder
    view: memoryview[int]
    wanted: bool = True  #: nobody has ended it


class CallersAttempts(Attempts):
    """All but `begin` and `end` is what the agent's loop calls, on its thread."""

    def __init__(self, hand_over: Callable[[_Waiting], None], **parts: Any) -> None:
        super().__init__(**parts)
        self._hand_over = hand_over
        self._mine: dict[str, _Waiting] = {}  #: by token

    def __len__(self) -> int:
        return len(self._mine)

    def start(self, order: AttemptOrder, code: str, fault: Fault | None = None) -> None:
        try:
            order, view = self._made(order)
        except OSError as exc:
            self._cannot_start(order, exc, folder=True)
            return
        waiting = self._mine[order.attempt.token] = _Waiting(order, view)
        self._hand_over(waiting)

    def begin(self, waiting: _Waiting) -> None:
        """It is being worked on."""
        self._loop.began(waiting.order.attempt.token)

    def end(self, waiting: _Waiting, outcome: Outcome) -> None:
        """It is over."""
        token = waiting.order.attempt.token
        if self._mine.pop(token, None) is None:
            return
        waiting.view.release()
        scratch.clean(waiting.order, keep_log=False)
        if outcome.status is not Status.DONE:
            scratch.remove_output(waiting.order)
        self._loop.ended(token, outcome)

    def kill(self, token: str) -> None:
        """What hasn't begun doesn't; what runs can't be stopped from outside, and isn't heard any more."""
        waiting = self._mine.get(token)
        if waiting is not None:
            waiting.wanted = False
            self.end(waiting, Outcome(status=Status.SUPERSEDED, started=False))

    def flush(self) -> None:
        """Nothing waits to be sent."""

    def watch(self, now: float) -> float:
        """A breakpoint may be held for hours."""
        return float("inf")

    def close(self) -> None:
        """Nothing runs on."""
        for waiting in self._mine.values():
            waiting.wanted = False
            with contextlib.suppress(ValueError):
                waiting.view.release()
        self._mine.clear()
