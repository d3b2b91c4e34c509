"""One term of a cluster's elected leader: a leadership, with those who serve its clients and watch workers.

Clients' requests come over the store, and jobs' events go there; what keeps jobs from going on is told, and
what nobody wants any more is removed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.info import JobInfo
from mrq.core.model import JobSpec, JobState, Status
from mrq.master.backend import Backend
from mrq.master.job_events import JobEventQueue
from mrq.master.leadership import Dial, Leadership, LeadershipSettings
from mrq.master.requests import RequestLoop
from mrq.master.views import Views
from mrq.ports import Broker

#: How often it is asked why jobs wait.
_WAITS_S: Final = 2.0
#: Workers that are dialled at once; one that can't be reached takes some seconds.
DIALS_MAX: Final = 8
#: How often what is kept for nobody is looked for.
_HOUSE_S: Final = 600.0


class Term:
    """Made for one epoch; `start` takes over, `stop` drops the view. Not started twice."""

    def __init__(self, backend: Backend, broker: Broker, settings: LeadershipSettings, *, epoch: int) -> None:
        self._broker = broker
        self._settings = settings
        desk = backend.desk()
        self._events = JobEventQueue(desk, lambda: self.leadership.views.under_way(), settings.died)
        dial = settings.dial
        self.leadership = Leadership(
            backend.servers,
            broker,
            self._events,
            settings,
            epoch=epoch,
            dial=None if dial is None else lambda asked: self._dials.ask(asked),
            ticked=self._tick,
        )
        self._dialling = self.leadership.background_work(DIALS_MAX, "mrq-dial")
        if dial is not None:
            self._dials = Dials(dial, self._dialling.do, self.leadership.master.sink)
        self._requests = RequestLoop(desk, self.leadership.requests, self.leadership.background)
        self._waits = Waits(self.leadership.views, self.leadership.master.spec, self._events.note)
        self._waits_at = 0.0
        self._apart: dict[str, str] = {}  #: what was said last of who doesn't share a job's OUT
        self._looks_for_apart = False  #: at this moment
        self._house_at = 0.0

    def start(self) -> None:
        """Take over, and serve. Raises OperatorError, UsageError; `stop` then, all the same."""
        self.leadership.shared.prepare()
        self.leadership.start()
        self._events.start()
        self._requests.start()

    def stop(self) -> None:
        """Drop the view: say, write and publish nothing more. What others may go on with stays."""
        self.leadership.stopping.set()
        self._requests.close()
        self.leadership.halt()
        self._requests.join()
        self._events.stop()
        self.leadership.close()
        self._dialling.close()

    def broker_says(self, trouble: str) -> None:
        """What keeps the broker from taking messages; "" once it takes them again. From any thread."""
        self.leadership.views.broker = trouble
        for info in self.leadership.views.under_way():
            self._events.note(info.job, trouble or "the broker takes messages again")

    # Between the loop's steps, on its thread.

    def _tick(self) -> None:
        self._settings.ticked()
        self._broker.tick()
        now = self._settings.clock.monotonic()
        if now >= self._waits_at or self.leadership.jobs.has_new:
            self.leadership.jobs.has_new = False
            self._waits_at = now + _WAITS_S
            self._waits.look()
            folders = {os.path.dirname(spec.staging) for spec in self._written() if spec.staging}
            if not self._looks_for_apart and self.leadership.shares.due(folders):
                self._looks_for_apart = True
                self.leadership.background.do(self._look_for_apart)
        if now >= self._house_at:
            self._house_at = now + _HOUSE_S
            self.leadership.background.do(self._keep_house)

    def _keep_house(self) -> None:
        """What is kept for nobody goes."""
        leadership = self.leadership
        until = self._settings.clock.time() - self._settings.keep_s
        for info in leadership.views.all():
            spec = leadership.master.spec(info.job)
            if spec is not None and info.state is JobState.FAILED and 0 < info.finished_at < until:
                leadership.finisher.expire(spec)
        leadership.shared.sweep(leadership.known, until)

    def _written(self) -> list[JobSpec]:
        """Jobs whose attempts run, or will."""
        going = (JobState.PENDING, JobState.RUNNING)
        master = self.leadership.master
        names = master.look(lambda m: [name for name in m.jobs() if m.state(name) in going])
        return [spec for name in names if (spec := master.spec(name)) is not None]

    def _look_for_apart(self) -> None:
        """Workers, and a master, that were not there when a job was submitted, and don't share its OUT."""
        try:
            for spec in self._written():
                if spec.staging is None:
                    continue
                apart = self.leadership.shares.check(os.path.dirname(spec.staging))
                said = f"{apart}: what they write of this job fails" if apart is not None else ""
                gone = not os.path.isdir(spec.staging)
                if gone and any(each.job == spec.job for each in self._written()):
                    said = (
                        f"master {self._settings.owner}, which leads, doesn't see {spec.staging}, where the "
                        "job's output is written: it can't be committed"
                    )
                if said and self._apart.get(spec.job) != said:
                    self._events.note(spec.job, said)
                self._apart[spec.job] = said
        finally:
            self._looks_for_apart = False


class Dials:
    """Workers that are dialled back, some at once and each once at a time: `later` does a thing on one of
    DIALS_MAX threads, and never raises; verdicts go to `tell`.

    The machine asks again where no verdict came in time. Where many can't be reached each takes seconds, and
    what is still waiting for its turn is asked for again: that mustn't make the queue longer.
    """

    def __init__(
        self, dial: Dial, later: Callable[[Callable[[], None]], None], tell: Callable[[e.Event], None]
    ) -> None:
        self._dial, self._later, self._tell = dial, later, tell
        self._lock = threading.Lock()
        self._waiting: set[c.DialWorker] = set()

    def ask(self, asked: c.DialWorker) -> None:
        """Dial, unless that is about to be done. From any thread."""
        with self._lock:
            if asked in self._waiting:
                return
            self._waiting.add(asked)
        self._later(lambda: self._ask(asked))

    def _ask(self, asked: c.DialWorker) -> None:
        try:
            verdict = self._dial(asked)
        finally:
            with self._lock:
                self._waiting.discard(asked)
        self._tell(verdict)


@dataclass(eq=False)
class Waits:
    """Tells whoever waits for a job why it doesn't go on: what no worker runs, and which workers lack disk.
    `note` tells a job's clients a sentence; only what changes is told."""

    views: Views
    spec_of: Callable[[str], JobSpec | None]
    note: Callable[[str, str], None]
    _said: dict[str, str] = field(default_factory=dict, init=False)
    #: By job, the workers whose lack of disk was told.
    _lacking: dict[str, set[str]] = field(default_factory=dict, init=False)

    def look(self) -> None:
        """Tell what has changed since the last look."""
        said: dict[str, str] = {}
        lacking: dict[str, set[str]] = {}
        for info in self.views.under_way():
            job, spec = info.job, self.spec_of(info.job)
            if spec is None:
                continue
            reason = self.views.waits_for(spec, info)
            if reason:
                said[job] = reason
                if self._said.get(job) != reason:
                    self.note(job, reason)
            told = lacking[job] = self._lacking.get(job, set())
            for worker, text in short_of_disk(info).items():
                if worker not in told:
                    told.add(worker)
                    self.note(job, text)
        self._said, self._lacking = said, lacking


def short_of_disk(info: JobInfo) -> dict[str, str]:
    """Of each worker on which a task found no room: a sentence with what it had and what was needed."""
    found: dict[str, str] = {}
    for told in info.errors:
        if told.status is Status.DISK_FULL and told.error is not None:
            found[told.worker] = (
                f"worker {told.worker} has too little disk for {told.task}: {told.error.message}"
            )
    return found
