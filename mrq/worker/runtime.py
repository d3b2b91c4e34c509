"""One worker of a cluster as a process: from its links to the servers to its end.

The agent's loop runs on the main thread: executors are started there, so that the kernel ends them with it
by both ways that there are. Signals are noted by a handler that only writes to a pipe, and acted upon by a
thread. Another thread looks at the disk, at the loop, and at what the worker says about itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import mrq
from mrq import health
from mrq.core import agent_words as a
from mrq.core.model import Slots, WorkerHealth
from mrq.core.orders import Drain, Notify
from mrq.core.store_api import BeatReply
from mrq.errors import OperatorError
from mrq.ports import Clock, WorkerStore
from mrq.worker import disk_use as rooms
from mrq.worker import folders
from mrq.worker.agent_loop import AgentLoop, Links, Storage
from mrq.worker.debug import DebugSwitch
from mrq.worker.pool import Pool
from mrq.worker.quota import LOOKER, QuotaPage
from mrq.worker.resources import Resources
from mrq.worker.worker_folder import WorkerFolder

_LOG: Final = logging.getLogger(__name__)

#: An older boot that hasn't beaten for so long is dead; as the leader has it.
SILENT_S: Final = 15.0
#: Between two looks at the disk; longer where a look takes long.
LOOK_S: Final = 5.0
_LOOK_REST: Final = 20
#: So many looks at a loop that doesn't go round: it never will. The process ends, so that another is started.
_STUCK_LOOKS: Final = 12
#: A beat's silence that is told to people.
_QUIET_S: Final = 5.0
#: After a second signal: what is left for killing, handing back and saying goodbye.
_STOP_S: Final = 2.0
#: A change of the disk's use by this share of what there is goes into the beats.
_TOLD_SHARE: Final = 0.02

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
#: Another boot has taken over this worker's id.
EXIT_REPLACED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Who a worker is, and its bounds."""

    worker: str
    slots: Slots
    hints: Resources
    address: str  #: that others dial
    disk_quota: int | None = None
    quota_path: str = ""  #: of its page (`worker.quota`), where there is one
    drain_timeout_s: float = 60.0
    handover_after_s: float | None = None  #: of a delivery; as of `AgentConfig`
    debug: DebugSwitch | None = None
    beat_interval_s: float = 1.0
    look_s: float = LOOK_S
    packages: Mapping[str, str] = field(default_factory=dict)
    ended: Sequence[tuple[str, str]] = ()  #: (worker, boot) of those before it on its disk that are over


def wait_for_silence(
    store: WorkerStore, home: WorkerFolder, worker: str, *, wait_s: float, clock: Clock
) -> None:
    """Return once no other boot beats under this worker's id: one that did so on this machine is dead, since
    we have its folder. Raises OperatorError when one elsewhere lives on."""
    until, said = clock.monotonic() + wait_s, False
    while True:
        found = store.boot(worker)
        if found is None or found[0] == home.boot_before or found[1] >= SILENT_S:
            return
        boot, silent_s = found
        if clock.monotonic() >= until:
            raise OperatorError(
                f"worker {worker} lives elsewhere (boot {boot}, heard of {silent_s:.0f} s ago); stop it, or "
                "give this one another --worker-id"
            )
        if not said:
            said = True
            _LOG.info(
                f"worker {worker} was heard of {silent_s:.0f} s ago (boot {boot}): waiting for its silence"
            )
        time.sleep(min(1.0, max(0.05, SILENT_S - silent_s)))


class Service:
    """The worker's loop with all that looks after it. Make it, then `run` it on the main thread."""

    def __init__(self, *, settings: WorkerSettings, home: WorkerFolder, links: Links, clock: Clock) -> None:
        self._settings = settings
        self._home = home
        self._links = links
        self._clock = clock
        self._pulse = health.Pulse(health.health_file(Path(home.path)))
        self._turns = 0  #: of the loop
        self._notes: tuple[str, ...] = ()  #: of the broker and the like
        self._serving = ""  #: why the data plane doesn't serve
        self._leaving = ""  #: why this worker drains by itself
        self._quota = QuotaPage(settings.quota_path, LOOKER) if settings.quota_path else None
        self._room = rooms.measure(home.path, settings.disk_quota)
        self._told: Mapping[str, object] = self._about()
        self._said_health: WorkerHealth | None = None
        self._quiet_since: float | None = None
        self._quiet_said = False
        self._replaced = False
        self._said_orders: set[int] = set()
        self._over = threading.Event()
        self.loop = AgentLoop(
            config=a.AgentConfig(
                worker=settings.worker,
                boot=home.boot,
                slots=settings.slots,
                address=settings.address,
                hints=asdict(settings.hints),
                about=self._told,
                beat_interval_s=settings.beat_interval_s,
                serve_s_max=settings.drain_timeout_s,
                handover_after_s=settings.handover_after_s,
            ),
            links=links,
            storage=Storage(root=home.path, put_aside=home.put_aside, quota=settings.quota_path),
            clock=clock,
            pool=Pool(started=home.note_child),
            watcher=self,
            debug=settings.debug,
        )

    def run(self) -> int:
        """Work until drained, stopped or replaced; the exit code. Raises what the loop dies of."""
        self._links.broker.attach(worker=self.loop.sink)
        if self._room.full:
            self.loop.sink(a.DiskChanged(full=True))
        watch = threading.Thread(target=self._watch, name="mrq-watch", daemon=True)
        watch.start()
        try:
            with self._signals():
                self.loop.run()
        finally:
            self._over.set()
            self._pulse.stop()
            watch.join(self._settings.look_s)
        if self._replaced:
            return EXIT_REPLACED
        return EXIT_FAILED if self._leaving else EXIT_DONE

    def serves(self, trouble: str) -> None:
        """What keeps the data plane from serving, in a sentence; "": nothing (any more). From any thread."""
        _LOG.warning(trouble) if trouble else _LOG.info("the data plane serves again")
        self._serving = trouble
        self._pulse.trouble(trouble)
        self._tell_about()

    def note(self, line: str | None) -> None:
        """What is wrong with a link, for people and for the leader; None: nothing (any more). From any
        thread."""
        self._notes = () if line is None else (line,)
        _LOG.info("the connection is back") if line is None else _LOG.warning(line)

    # What the loop calls, on its thread: none of it may wait.

    def ticked(self) -> None:
        """The loop went round. What this raises ends the loop."""
        self._turns += 1
        self._pulse.tick()
        self._links.broker.tick()

    def heard(self, reply: BeatReply | None) -> None:
        """A beat was answered, or not: say what people would ask about."""
        now = self._clock.monotonic()
        if reply is None:
            self._quiet_since = self._quiet_since if self._quiet_since is not None else now
            if now - self._quiet_since >= _QUIET_S and not self._quiet_said:
                self._quiet_said = True
                _LOG.warning("beats aren't answered: the store is away, or no leader has opened it yet")
            return
        if self._quiet_said:
            _LOG.info("beats are answered again")
        self._quiet_since, self._quiet_said = None, False
        leave = any(isinstance(each.order, Drain) for each in reply.orders)
        if leave and reply.health is WorkerHealth.DEAD:
            if not self._replaced:
                _LOG.warning(
                    f"a newer boot beats as worker {self._settings.worker}: this one ends; two workers need "
                    "two ids (--worker-id)"
                )
            self._replaced = True
        elif reply.health is not self._said_health:
            reached = self._said_health is WorkerHealth.JOINING and reply.health is WorkerHealth.ALIVE
            self._said_health = reply.health
            _LOG.info(("the leader has reached this worker: " if reached else "") + _HEALTH[reply.health])
        for each in reply.orders:
            if each.number not in self._said_orders:
                self._said_orders.add(each.number)
                match each.order:
                    case Drain(reason=reason) if reason:
                        _LOG.info(f"asked to leave: {reason}")
                    case Notify(text=text):
                        _LOG.info(text)

    def unfit(self, why: str) -> None:
        """This worker's own folders can't be used, nor made again, which is told more than once: leave, by
        name. Whatever starts this worker again gives it folders anew, or the reason why not."""
        if self._leaving:
            return
        self._leaving = f"it can't work in its own folders: {why}"
        _LOG.error(
            f"this worker leaves, for {self._leaving}; started again it makes them anew, or says why not"
        )
        self._pulse.trouble(self._leaving)
        self._tell_about()
        self.loop.drain(self._settings.drain_timeout_s)

    # Signals.

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT drain, a second one stops."""
        read, write = os.pipe2(os.O_CLOEXEC)

        def handler(number: int, frame: object) -> None:
            os.write(write, bytes([number]))

        before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
        thread = threading.Thread(target=self._obey, args=(read,), name="mrq-signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
            os.close(write)  # which ends the thread
            thread.join(1.0)

    def _obey(self, read: int) -> None:
        try:
            for count, number in enumerate(iter(lambda: os.read(read, 1), b"")):
                name = signal.Signals(number[0]).name
                if count == 0:
                    bound = self._settings.drain_timeout_s
                    _LOG.info(f"{name}: draining for up to {bound:g} s; once more stops at once")
                    self.loop.drain(bound)
                else:
                    _LOG.info(f"{name}: stopping")
                    self.loop.stop(_STOP_S)
        finally:
            os.close(read)

    # The watch.

    def _watch(self) -> None:
        """Look at the disk and at the loop, until it is over."""
        rest_s, seen, stuck = self._settings.look_s, -1, 0
        while not self._over.wait(rest_s):
            began = time.monotonic()
            self._look()
            stuck = stuck + 1 if self._turns == seen else 0
            seen = self._turns
            if stuck >= _STUCK_LOOKS:
                _LOG.error("the loop doesn't go round any more; this process ends")
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT_FAILED)
            rest_s = max(self._settings.look_s, _LOOK_REST * (time.monotonic() - began))

    def _look(self) -> None:
        self._home.touch()
        lost = self._home.lost(quota=bool(self._settings.quota_path))
        if lost is not None:
            self.unfit(lost)
        self._mend_links()
        before = self._room
        granted = self._quota.granted if self._quota is not None else 0
        self._room = rooms.measure(self._home.path, self._settings.disk_quota, before)
        if self._quota is not None:
            self._quota.measured(self._room.used, granted)
        if self._room.full != before.full:
            note = self._room.note
            _LOG.warning(note) if note else _LOG.info("there is room on the disk again")
            self.loop.sink(a.DiskChanged(full=self._room.full))
        self._tell_about()

    def _mend_links(self) -> None:
        """Nothing fails where a link leads to a folder: it is looked for."""
        for path in self._home.linked():
            try:
                folders.mend(path, self._home.path)
            except OSError as exc:
                self.unfit(f"{path} is a link, and no folder can be made in its place: {exc.strerror}")
            else:
                _LOG.warning(
                    f"{path}, a folder of this worker's own, was a link to elsewhere: the link is put aside "
                    "and the folder made anew; what lay behind it runs again where it is needed"
                )

    def _tell_about(self) -> None:
        told = self._about()
        if _worth_telling(self._told, told):
            self._told = told
            self.loop.sink(a.AboutChanged(about=told))

    def _about(self) -> Mapping[str, object]:
        """`Beat.about`: what `WorkerInfo` shows, and whose place it has taken. As msgpack has it."""
        settings, room = self._settings, self._room
        return {
            "version": mrq.__version__,
            "python": platform.python_version(),
            "packages": dict(settings.packages),
            "disk_used": room.used,
            "disk_quota": room.quota,
            "disk_free": room.free,
            "debug": str(settings.debug) if settings.debug is not None else "",
            "full": room.note or "",
            "notes": list(self._notes),
            "serving": self._serving,
            "leaving": self._leaving,
            "ended": [list(each) for each in settings.ended],
        }


_HEALTH: Final[Mapping[WorkerHealth, str]] = {
    WorkerHealth.JOINING: "waiting for the leader to reach this worker",
    WorkerHealth.ALIVE: "taking tasks",
    WorkerHealth.SUSPECT: "the leader hasn't heard of this worker for some seconds",
    WorkerHealth.DEAD: "the leader took this worker for dead; it will be heard of again",
    WorkerHealth.DRAINING: "draining: no more tasks are taken",
    WorkerHealth.QUARANTINED: "quarantined: no tasks until `mrq workers readmit`",
}


def _worth_telling(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    """Is it something else than the disk's use by a little?"""
    numbers = ("disk_used", "disk_free")
    if any(now[key] != before[key] for key in now if key not in numbers):
        return True
    used, free = (int(str(now[key])) for key in numbers)
    moved = max(abs(used - int(str(before["disk_used"]))), abs(free - int(str(before["disk_free"]))))
    return moved > _TOLD_SHARE * (used + free)
