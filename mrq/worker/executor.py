"""The child process that runs user code, one attempt at a time.

Started by `worker.child`, by exec and never by fork. It serves a pipe until that ends, and dies with its
parent even inside C code: the parent holds the write end of a third pipe, and the kernel is told to send
SIGKILL to this process group when that end closes (beside PDEATHSIG, which counts only where the spawning
thread is the process's main one). Whatever user code does is told to the agent as an outcome or, if it
ends the process, by its exit.
"""

from __future__ import annotations

import _thread
import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mrq.worker import lifeline, protocol
from mrq.worker.capture import Capture, refuse_prompts

if TYPE_CHECKING:
    from mrq.core.model import JobSpec, Outcome
    from mrq.job.base import Job
    from mrq.shuffle.bounded import Quota
    from mrq.worker.attempt_order import AttemptOrder
    from mrq.worker.quota import QuotaPage

#: Exit codes of our own; `worker.exits` names them.
EXIT_PIPE_CLOSED: Final = 70
EXIT_PROTOCOL: Final = 71

#: Executors volunteer for the kernel's OOM killer before the agent does.
_OOM_SCORE: Final = b"300"
#: Our descriptors live at the top of this range, out of reach of `os.closerange(0, 256)`.
_FD_MAX: Final = 4096
_FDS: Final = 6
#: Progress pages that stay mapped.
_PAGES_MAX: Final = 256

#: In the order in which an attempt comes to need them.
_WARM: Final = (
    "mrq.core.wire",
    "mrq.worker.attempt_order",
    "mrq.worker.progress_page",
    "mrq.worker.tasks",
    "mrq.job.bundle",
    "mrq.worker.tasks.mapper",
    "mrq.worker.tasks.reducer",
    "mrq.job.builtins",
)


def main(arguments: list[str]) -> None:
    """Serve the pipes whose numbers are in `arguments`: read, write, life, whether the thread that spawned us
    is its process's main one, and the pipe of permits."""
    read, write, life, permits, high = _move_up([int(arguments[at]) for at in (0, 1, 2, 4)])
    lifeline.tie(life, by_prctl=arguments[3] == "1")
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:
        score.write(_OOM_SCORE)
    # Ctrl-C is the agent's to decide about; nothing that the parent had blocked stays blocked.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    capture = Capture(high)
    faulthandler.enable(capture.fd)
    faulthandler.register(signal.SIGUSR1, capture.fd)
    refuse_prompts()
    sys.argv = ["mrq-executor"]
    protocol.write_frame(write, {"op": protocol.READY})
    _warm_up(read)
    from mrq.worker import forks

    forks.guard((read, write, life, permits))
    try:
        Executor(read, write, permits, capture).serve()
    except protocol.ProtocolError:
        os._exit(EXIT_PROTOCOL)
    except OSError:  # the parent is gone, or user code has closed our descriptors
        os._exit(EXIT_PIPE_CLOSED)
    os._exit(0)


class Executor:
    """One process's service: one bundle, and attempts of all jobs with it."""

    def __init__(self, read: int, write: int, permits: int, capture: Capture) -> None:
        self._read = read
        self._write = write
        self._permits = permits
        self._capture = capture
        self._pid = os.getpid()
        self._classes: dict[str, type[Job]] = {}  #: by entry: a bundle may hold several jobs
        self._spec: tuple[bytes, JobSpec] | None = None  #: the last one, packed and as it is
        self._stages: dict[int, type[Job]] = {}  #: of that: by place, what its stages run as
        self._reader = protocol.FrameReader()
        self._poll = select.poll()
        self._poll.register(permits, select.POLLIN)
        self._poll.register(read, 0)  # its end alone
        self._orders: deque[dict[str, Any]] = deque()
        self._unsaid = bytearray()  #: frames that go out with the next ones
        self._pages: dict[str, memoryview[int]] = {}  #: attempts use them again, one after the other
        self._quota: QuotaPage | None = None  #: of the worker's disk, once there was word of one

    def serve(self) -> None:
        """Run what comes until the pipe ends, or an attempt leaves the process unfit for others. Raises
        ProtocolError, OSError."""
        while (order := self._next()) is not None:
            if self._run(order):
                self._flush()
                return

    def _next(self) -> dict[str, Any] | None:
        """Wait for a permit, and then for its order, having said everything where there is something to wait
        for; None at the end. Orders without one were taken back."""
        if self._permits not in dict(self._poll.poll(0)):
            self._flush()
            if self._permits not in dict(self._poll.poll()):
                return None  # nobody is there to order anything
        permit = os.read(self._permits, protocol.PERMIT.size)
        if not permit:
            return None
        (number,) = protocol.PERMIT.unpack(permit)
        while True:
            while self._orders:
                order = self._orders.popleft()
                if order["op"] != protocol.RUN:
                    raise protocol.ProtocolError(f"an executor doesn't know {order['op']!r}")
                if order["number"] == number:
                    return order
            self._flush()
            messages = protocol.read_some(self._read, self._reader)
            if messages is None:
                return None
            self._orders.extend(messages)

    def _answer(self, token: str, outcome: Any, *, retire: bool = False) -> dict[str, Any]:
        threads = _thread._count() > 0
        return {
            "op": protocol.OUTCOME,
            "token": token,
            "outcome": outcome,
            "retire": retire,
            "threads": threads,
        }

    def _say(self, message: dict[str, Any]) -> None:
        """Before user code begins, or anything is waited for. Raises ProtocolError."""
        self._unsaid += protocol.encode(message)

    def _flush(self) -> None:
        if os.getpid() != self._pid:  # a fork that slipped through `forks.guard`
            os._exit(EXIT_PROTOCOL)
        if self._unsaid:
            unsaid, self._unsaid = self._unsaid, bytearray()
            protocol.write_all(self._write, unsaid)

    def _run(self, message: dict[str, Any]) -> bool:
        """One attempt; whether the next one needs a new process."""
        from mrq.core import wire
        from mrq.core.model import ErrorReport, Outcome, Status
        from mrq.worker.attempt_order import AttemptOrder

        if self._spec is None or self._spec[0] != message["spec"]:
            self._spec = message["spec"], protocol.unpack_spec(message["spec"])
            self._stages.clear()
        order = wire.from_wire(AttemptOrder, message["order"], {"spec": self._spec[1]})
        token = order.attempt.token
        self._say({"op": protocol.STARTED, "token": token})
        self._flush()
        entry = order.spec.entry
        loaded = entry in self._classes
        try:
            self._capture.begin(order.log_path)
        except OSError as exc:
            outcome = _of_a_folder(exc, order, message["code"])
            if outcome is None:
                said = f"the attempt's log {order.log_path} can't be opened: {exc.strerror}"
                error = ErrorReport(type=type(exc).__name__, message=said)
                outcome = Outcome(status=Status.LOST, error=error)
        else:
            try:
                outcome = self._attempt(order, message)
            finally:
                self._capture.end()
        # An import that failed leaves modules half made: the next attempt gets a new process.
        retire = not loaded and entry not in self._classes
        try:
            self._say(self._answer(token, wire.to_wire(outcome), retire=retire))
        except protocol.ProtocolError as exc:
            self._say(self._answer(token, wire.to_wire(_failed(exc)), retire=retire))
        return retire

    def _attempt(self, order: AttemptOrder, message: dict[str, Any]) -> Outcome:
        from mrq.worker import tasks

        try:
            view = self._page(order.page_path)
            found = self._classes.get(order.spec.entry)
            if found is None:
                import gc

                from mrq.job.bundle import import_entry

                found = self._classes[order.spec.entry] = import_entry(message["code"], order.spec.entry)
                gc.collect()
                gc.freeze()  # modules live as long as we do: no collection needs to look at them
            _act_up(message.get("fault"))
            job = self._class_of(found, order)(**order.spec.parameters)
            return tasks.run_attempt(order, job, view, self._share(order, message.get("quota")))
        except BaseException as exc:  # noqa: BLE001 - whatever user code raises, sys.exit too
            return _failed(exc, order, message["code"])

    def _class_of(self, cls: type[Job], order: AttemptOrder) -> type[Job]:
        """What the job runs as in the attempt's stage. Raises JobDefinitionError."""
        from mrq.job.base import has_stages

        if not has_stages(cls):
            return cls
        stage = order.spec.stage(order.task.stage)
        if stage.place not in self._stages:
            from mrq.job.stages import stage_class

            self._stages[stage.place] = stage_class(cls(**order.spec.parameters), stage)
        return self._stages[stage.place]

    def _page(self, path: str) -> memoryview[int]:
        """The progress page there. Raises OSError."""
        from mrq.worker import progress_page

        view = self._pages.get(path)
        if view is None:
            if len(self._pages) >= _PAGES_MAX:
                self._pages.clear()
            view = self._pages[path] = progress_page.open_page(path)
        return view

    def _share(self, order: AttemptOrder, path: str | None) -> Quota | None:
        """Of the worker's disk quota; None where there is none. Raises OSError."""
        if path is None:
            return None
        from mrq.core.refs import Kind
        from mrq.worker.quota import QuotaPage

        if self._quota is None:
            self._quota = QuotaPage(path)
        return self._quota.share(maps=order.task.kind is Kind.MAP)


def _move_up(low: list[int]) -> list[int]:
    """Our descriptors at high numbers, closed on exec, and the first of two free ones above them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = _FD_MAX if soft == resource.RLIM_INFINITY else min(soft, _FD_MAX)
    base = top - _FDS
    for offset, fd in enumerate(low):
        os.dup2(fd, base + offset, inheritable=False)
        os.close(fd)
    return [base + offset for offset in range(len(low) + 1)]


def _warm_up(read: int) -> None:
    """Import what attempts need, for as long as there is nothing else to do."""
    poll = select.poll()
    poll.register(read, select.POLLIN)
    for name in _WARM:
        if poll.poll(0):
            return
        import_module(name)
    from mrq.core import wire
    from mrq.core.model import JobSpec, Outcome, Status
    from mrq.worker.attempt_order import AttemptOrder

    wire.to_wire(Outcome(status=Status.DONE))
    for cls in (AttemptOrder, JobSpec):
        with contextlib.suppress(Exception):  # compiles the reader of orders
            wire.from_wire(cls, [])


def _act_up(fault: str | None) -> None:
    """What MRQ_DEBUG asks for."""
    if fault is None:
        return
    from mrq.worker.debug import VARIABLE, Fault

    match Fault(fault):
        case Fault.CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        case Fault.HANG:
            while True:
                signal.pause()
        case Fault.ERROR:
            raise RuntimeError(f"{VARIABLE} asked for this error")


def _failed(exc: BaseException, order: AttemptOrder | None = None, code: str = "") -> Outcome:
    """What went wrong outside a record: at import, in the constructor, in the worker's own folders, or in the
    engine itself."""
    from mrq.core.model import ErrorReport, Outcome, Status

    if order is not None:
        found = _of_a_folder(exc, order, code)
        if found is not None:
            return found
    cause = exc.__cause__ or exc
    try:
        message = str(exc)
    except BaseException as broken:  # noqa: BLE001 - user code again
        message = f"(its message can't be shown: {type(broken).__name__})"
    return Outcome(
        status=Status.FAILED,
        error=ErrorReport(type=type(cause).__name__, message=message, frames=_frames(cause)),
    )


def _of_a_folder(exc: BaseException, order: AttemptOrder, code: str) -> Outcome | None:
    """The outcome where a folder of the worker's own is behind it: it is full, gone, or can't be written."""
    import errno

    from mrq.core.model import ErrorReport, Outcome, Status
    from mrq.io import disk
    from mrq.worker import folders

    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        error = ErrorReport(type=type(exc).__name__, message=str(disk.named(exc, order.log_path)))
        return Outcome(status=Status.DISK_FULL, error=error)
    why = folders.lost(order, exc, code)
    return folders.outcome(why) if why is not None else None


def _frames(exc: BaseException) -> str:
    """The traceback as text, the user's own frames alone where there are any."""
    import traceback

    from mrq.job import source

    try:
        entries = traceback.extract_tb(exc.__traceback__)
        own = [entry for entry in entries if source.is_users(entry.filename)]
        lines = traceback.format_list(own or entries)
        if isinstance(exc, SyntaxError):
            lines += traceback.format_exception_only(exc)
    except BaseException as broken:  # noqa: BLE001 - user code again
        return f"(its frames can't be shown: {type(broken).__name__})"
    return "".join(lines).rstrip()


if __name__ == "__main__":
    main(sys.argv[1:])
