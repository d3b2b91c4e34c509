"""What a dead executor is reported as: how it ended, its memory, the record at hand, its last lines."""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mrq.core.model import ErrorReport, Outcome, Status
from mrq.core.paths import named
from mrq.core.refs import Kind
from mrq.job.source import short_path
from mrq.worker import attempt_logs, progress_page, resources
from mrq.worker.attempt_order import AttemptOrder

#: Of the record at hand, characters.
RECORD_SHOWN_MAX: Final = 200
_LINE_BYTES_MAX: Final = 4096
#: Formats whose records lie in their files as lines.
_LINE_FORMATS: Final = frozenset(("text", "jsonl"))
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
#: A peak this near the limit makes a SIGKILL look like the work of the OOM killer.
_NEAR: Final = 0.8

#: Where Python's fault handler begins to write, for a fatal signal or because it was asked to.
_STACK: Final = re.compile(r"^(?:Fatal Python error: |(?:Current thread|Thread) 0x)", re.MULTILINE)
_THREAD: Final = re.compile(r"^(?=Current thread 0x|Thread 0x)", re.MULTILINE)
_FRAME: Final = re.compile(r'^  File "(.+)", line ([0-9]+) in (.+)$', re.MULTILINE)
_STACK_BYTES_MAX: Final = 64 << 10
_STACK_LINES_MAX: Final = 1000
_FRAMES_MAX: Final = 12
_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

#: Exit codes of the executor's own (`worker.executor`, `worker.forks`).
_OWN_CODES: Final = {
    70: "the executor's pipe was closed under it: does the user's code close file descriptors?",
    71: "the executor's pipe was written to by something else",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended."""

    code: int | None  #: of a normal exit
    signal: int | None  #: that killed it; neither: somebody else has reaped it
    peak_rss_bytes: int
    words: str = ""  #: what it wrote to stderr outside attempts

    @classmethod
    def of(cls, status: int, max_rss_bytes: int, sampled_bytes: int) -> Exit:
        """From what wait4 says.

        Its peak includes our own at the time of the exec, so where it isn't above that, the peak that was
        sampled while the process lived is the better figure.
        """
        import resource

        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        peak = max_rss_bytes if max_rss_bytes > ours or not sampled_bytes else sampled_bytes
        if os.WIFSIGNALED(status):
            return cls(code=None, signal=os.WTERMSIG(status), peak_rss_bytes=peak)
        return cls(code=os.WEXITSTATUS(status), signal=None, peak_rss_bytes=peak)

    def __str__(self) -> str:
        if self.signal is not None:
            with contextlib.suppress(ValueError):
                return f"killed by signal {self.signal} ({signal.Signals(self.signal).name})"
            return f"killed by signal {self.signal}"
        return "ended, no exit code is known" if self.code is None else f"exit code {self.code}"


class MemoryWatch:
    """Notices that the kernel's OOM killer was at work."""

    def __init__(self) -> None:
        self._kills = _oom_kills()

    def struck(self) -> bool:
        """Whether it has killed since the last time that this was asked."""
        before, self._kills = self._kills, _oom_kills()
        return self._kills > before


def lost(
    order: AttemptOrder, ended: Exit, position: Sequence[int], *, started: bool, oom: bool, why: str = ""
) -> Outcome:
    """The outcome of an attempt whose executor died under a living agent.

    `position`: the progress page; `why`: what the agent knows beyond the exit.
    """
    parts = [f"the executor died, with a peak memory of {ended.peak_rss_bytes >> 20} MiB"]
    if why:
        parts.append(why)
    if ended.code in _OWN_CODES:
        parts.append(_OWN_CODES[ended.code])
    if ended.signal == signal.SIGKILL and oom:
        budget = order.spec.memory_bytes >> 20
        parts.append(f"the kernel's OOM killer ran: less `memory` (now {budget} MiB) or fewer executors")
    elif ended.signal == signal.SIGKILL:
        limit = resources.memory_bytes()
        if limit and ended.peak_rss_bytes >= _NEAR * limit:
            parts.append(f"probably the OOM killer: the machine or container has {limit >> 20} MiB")
    if not started and ended.words:
        parts.append(f"it said: {ended.words}")
    error = ErrorReport(type=str(ended), message="; ".join(parts), peak_rss_bytes=ended.peak_rss_bytes)
    return Outcome(status=Status.LOST, error=with_record(error, order, position), started=started)


def timed_out(order: AttemptOrder, position: Sequence[int], stack: str, peak_rss_bytes: int) -> Outcome:
    """The outcome of an attempt that was silent for too long; `stack`: where it hung."""
    silence = f"no progress for {order.spec.progress_timeout_s:g} s"
    error = ErrorReport(
        type=silence,
        message="no record was read or written and task.progress() wasn't called, so the attempt was killed; "
        "`progress_timeout` sets the time",
        frames=stack,
        peak_rss_bytes=peak_rss_bytes,
    )
    return Outcome(status=Status.TIMED_OUT, error=with_record(error, order, position))


def with_log(outcome: Outcome, path: str) -> Outcome:
    """The outcome with the attempt's log named and its last lines quoted.

    A stack that the dying process wrote there becomes the error's frames.
    """
    if outcome.error is None:
        return outcome
    text, stack = split_stack(attempt_logs.tail(path, bytes_max=_STACK_BYTES_MAX, lines_max=_STACK_LINES_MAX))
    error = replace(
        outcome.error,
        log_path=path,
        log_tail=outcome.error.log_tail or attempt_logs.last_lines(text),
        frames=outcome.error.frames or stack,
    )
    return replace(outcome, error=error)


def with_source_paths(outcome: Outcome, code: str, source_root: str) -> Outcome:
    """The outcome that names the user's own files, not the copies that ran in the folder `code`."""
    if outcome.error is None or not source_root:
        return outcome
    message, frames = outcome.error.message, outcome.error.frames
    for copies in (code, short_path(code)):
        message = message.replace(f"{copies}/", f"{source_root.rstrip('/')}/")
        frames = frames.replace(f"{copies}/", f"{source_root.rstrip('/')}/")
    if outcome.error.type in ("ModuleNotFoundError", "JobDefinitionError"):
        message += _shipping_hint(message, source_root)
    return replace(outcome, error=replace(outcome.error, message=message, frames=frames))


def _shipping_hint(message: str, source_root: str) -> str:
    """What to do about a module that executors lack: an import that computes its name isn't followed."""
    found = re.search(r"No module named '([\w.]+)'", message)
    if found is None:
        return ""
    name = found[1].replace(".", "/")
    for path in (f"{name}.py", name, f"{name.partition('/')[0]}.py", name.partition("/")[0]):
        if os.path.exists(os.path.join(source_root, path)):
            return (
                f"; {path} lies beside the job's file, and executors get only what import statements name: "
                f'ship it too, `ship=["{path}"]`'
            )
    return (
        "; executors get what import statements name, and have the packages that are installed there: "
        'a file of yours whose name is computed is sent by `ship=["PATH"]`'
    )


def as_text(error: ErrorReport) -> str:
    """The error as the end of its attempt's log."""
    lines = [f"[mrq: the attempt failed: {error.type}: {error.message}]"]
    if error.path is not None:
        lines.append(f"[mrq: at {named(error.path)}, offset {error.offset}: {error.record}]")
    elif error.record is not None:
        lines.append(f"[mrq: at {error.record}]")
    if error.frames:
        lines.append(error.frames)
    return "\n".join(lines) + "\n"


def split_stack(log: str) -> tuple[str, str]:
    """What user code wrote, and the stack that Python's fault handler wrote after it: of the current
    thread, the user's frames (or all, where none is), in the order of a traceback. Either may be ""."""
    found = _STACK.search(log)
    if found is None:
        return log, ""
    threads = _THREAD.split(log[found.start() :])
    # The current thread is the one that crashed, or the main one, which took the signal.
    stack = next((text for text in threads if text.startswith("Current")), threads[-1])
    frames = _FRAME.findall(stack)
    own = [frame for frame in frames if not frame[0].startswith(_OURS) and not frame[0].startswith("<")]
    lines = []
    for file, number, name in reversed((own or frames)[:_FRAMES_MAX]):
        lines.append(f'  File "{file}", line {number}, in {name}')
        source = linecache.getline(file, int(number)).strip()
        if source:
            lines.append(f"    {source}")
    return log[: found.start()], "\n".join(lines)


def with_record(error: ErrorReport, order: AttemptOrder, position: Sequence[int]) -> ErrorReport:
    """The error with the record that the page says was at hand: its file, offset and, of lines, itself."""
    if not any(position[progress_page.RECORDS :]) and position[progress_page.OFFSET] < 0:
        return error
    records = position[progress_page.RECORDS]
    if order.task.kind is not Kind.MAP or order.split is None or position[progress_page.OFFSET] < 0:
        return replace(error, record=f"after {records} records")
    offset, index = position[progress_page.OFFSET], position[progress_page.PIECE]
    if not 0 <= index < len(order.split.pieces):
        return replace(error, record=f"after {records} records")
    piece = order.split.pieces[index]
    text = None
    stage = order.spec.stage(order.task.stage)
    if stage.input_format in _LINE_FORMATS and not piece.open.endswith(_COMPRESSED):
        text = _line_at(piece.open, offset, stage.encoding)
    return replace(error, record=text, path=piece.path, offset=offset)


def at_hand(order: AttemptOrder, position: Sequence[int]) -> str:
    """The record that the page says is at hand, in words; "" before the first."""
    found = with_record(ErrorReport(type="", message=""), order, position)
    if found.path is None:
        return found.record or ""
    where = f"offset {found.offset} of {found.path}"
    return f"{found.record} ({where})" if found.record else where


def _line_at(path: str, offset: int, encoding: str | None) -> str | None:
    """The line at an offset of a plain local file, shortened; None where there is none to read."""
    if "://" in path:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data = os.pread(fd, _LINE_BYTES_MAX, offset)
    except OSError:
        return None
    finally:
        os.close(fd)
    if not data:
        return None
    line, newline, _ = data.partition(b"\n")
    shown = repr(line if encoding is None else line.removesuffix(b"\r").decode(encoding, "replace"))
    if len(shown) > RECORD_SHOWN_MAX or (not newline and len(data) == _LINE_BYTES_MAX):
        shown = shown[: RECORD_SHOWN_MAX - 1] + "…"
    return shown


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, since it was started."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/vmstat", "rb") as file:
        return int(file.read().split(b"oom_kill ", 1)[1].split(None, 1)[0])
    return 0
