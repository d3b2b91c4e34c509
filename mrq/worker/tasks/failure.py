"""What a failed attempt says: the user's own frames first, then the record at hand."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from mrq.core.model import ErrorReport, FetchFailure
from mrq.core.refs import Kind
from mrq.errors import DataError, DiskFullError, MrqError
from mrq.job.base import METHODS, Job, called
from mrq.worker.folders import causes

_MESSAGE_MAX: Final = 4_000
_RECORD_MAX: Final = 500
_FRAMES_MAX: Final = 30
_CAUSES_MAX: Final = 5
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: The method that a message of ours begins with: "map yielded …", "Sessions.partition('a', 3) returned …".
_METHOD: Final = re.compile(r"(?:\w+\.)?(\w+)\b(?=[ (])")
#: Functions of the engine's that call the user's callables, or pull from iterators that these gave: what
#: is raised right there comes out of a callable without frames, such as `map(int, values)`.
_PULLS: Final = frozenset(
    {
        "called",
        "checked",
        "_ended",
        "_pairs",
        "_drawn",
        "column",
        "_stopped",
        "_chosen_by",
        "combine",
        "_built_in_groups",
        "_carried",
    }
    | {"consume", "_add", "_add_looking", "_count", "_gather", "_group", "_append"}
    | {"_reduce_groups", "_reduce_careful"}
)
_CLOSED: Final = (
    ": a file that mrq has open was closed by the job's code; os.close and os.closerange may only be given "
    "descriptors that the code itself has opened"
)
#: Which methods make the keys and values of a task.
_ANSWERS: Final = {Kind.MAP: ("map", "map_block", "map_split"), Kind.REDUCE: ("reduce",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The record at hand."""

    path: str | None  #: as spelled; None in a reduce
    offset: int | None  #: in its file, bytes
    key: Any
    value: Any


class UnreadableMapOutput(MrqError):
    """Map outputs couldn't be read, or used: not this attempt's fault."""

    def __init__(self, failures: list[FetchFailure], error: ErrorReport | None = None) -> None:
        super().__init__(f"{len(failures)} map outputs can't be read")
        self.failures = tuple(failures)
        self.error = error


def report(exc: BaseException, record: str | None = None, at: Record | None = None) -> ErrorReport:
    """The error as shown to people. Never raises, whatever the exception's own methods do.

    `record` is its text where it isn't a record of an input, such as a group.
    """
    if record is None and at is not None:
        record = shortened((at.key, at.value) if at.path is None else at.value)
    closed = _closed(exc)
    return ErrorReport(
        type=_type_name(exc),
        message=f"{_message(exc)}{_CLOSED}" if closed else _message(exc),
        frames="" if closed else _chain(exc),
        record=record,
        path=at.path if at is not None else None,
        offset=at.offset if at is not None else None,
    )


def shortened(value: Any, limit: int = _RECORD_MAX) -> str:
    """repr, cut; of a huge str or bytes only the beginning is looked at."""
    try:
        if isinstance(value, str | bytes) and len(value) > limit:
            return (
                f"{value[:limit]!r}… ({len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'})"
            )
        if isinstance(value, list | tuple) and len(value) > limit:
            return f"{value[:20]!r}… ({len(value):,} items)"
        text = repr(value)
    except BaseException as broken:  # noqa: BLE001 a user's __repr__ may raise anything
        return f"<a {type(value).__name__} whose repr raises {type(broken).__name__}>"
    return text if len(text) <= limit else text[:limit] + "…"


def group_named(key: Any) -> str:
    """What is at hand, for people."""
    return f"the group of the key {shortened(key, 200)}"


def disk_full(exc: BaseException) -> bool:
    """Whether a full disk is behind it."""
    seen: BaseException | None = exc
    for _ in range(10):
        if seen is None:
            return False
        if isinstance(seen, DiskFullError) or (isinstance(seen, OSError) and seen.errno in _FULL):
            return True
        seen = seen.__cause__
    return False


def full_disk_message(exc: BaseException, folder: str) -> str:
    """One sentence with the folder, what was needed and what there was."""
    if isinstance(exc, DiskFullError):
        return str(exc)
    from mrq.io.disk import named

    seen: BaseException | None = exc
    while seen is not None and not (isinstance(seen, OSError) and seen.errno in _FULL):
        if isinstance(seen, DiskFullError):
            return str(seen)
        seen = seen.__cause__
    assert isinstance(seen, OSError)
    path = seen.filename if isinstance(seen.filename, str) else folder
    return str(named(seen, path))


def too_deep(exc: RecursionError) -> DataError | None:
    """What to say where the engine ran out of stack over the data; None where user code did."""
    from mrq.job.source import user_frame

    if user_frame(exc.__traceback__) is not None:
        return None
    return DataError(
        "a key or value can't be carried: it is nested too deeply; flatten it, or yield it as JSON text"
    )


def method_at_fault(job: type[Job], kind: Kind, message: str) -> str:
    """Where the method stands whose answer was refused, like a frame: it had returned or yielded by then.

    The message begins with its name; what can't be carried came out of the task's own method. "" if unknown.
    """
    from mrq.job import source

    hooks = {called(job, hook): hook for hook in METHODS}  # by what the user calls them
    found = _METHOD.match(message)
    names: Sequence[str] = [hooks[found[1]]] if found is not None and found[1] in hooks else ()
    if not names and ("can't be" in message or message.startswith(("mrq.", "sort_values", "NaN among"))):
        names = _ANSWERS[kind]
    for name in names:
        function = source.function_of(getattr(job, name, None))
        if function is not None and source.is_users(function.__code__.co_filename):
            file, line = function.__code__.co_filename, source.def_line(function)
            return f'  File "{file}", line {line}, in {called(job, name)}\n    {source.line_text(file, line)}'
    return ""


def _type_name(exc: BaseException) -> str:
    return type(exc).__name__


def _message(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return f"the job's code called sys.exit({_text(exc)}); return or raise an error instead"
    if isinstance(exc, KeyboardInterrupt):
        return "the job's code raised KeyboardInterrupt"
    text = _text(exc)
    if type(exc) is RuntimeError and text == "generator raised StopIteration":  # PEP 479
        return f"{text}; was next() called on an empty iterator?"
    if isinstance(exc, MemoryError) and not text:
        return "Python ran out of memory; the job's own code holds more than the executor may have"
    return text if len(text) <= _MESSAGE_MAX else text[:_MESSAGE_MAX] + "…"


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except BaseException as broken:  # noqa: BLE001 a user's __str__ may raise anything
        return f"(its message can't be shown: str() of it raised {type(broken).__name__})"


def _chain(exc: BaseException) -> str:
    """The frames of the exception, then those of what it came from.

    The engine's own are shown only where none of the user's is among them: then it is a bug of ours.
    """
    chain = causes(exc, _CAUSES_MAX)
    ours = not (any(map(_shows_users, chain)) or _pulled(exc))
    parts = [_frames(exc, ours=ours)]
    for above, cause in pairwise(chain):
        frames = _frames(cause, ours=ours and not isinstance(above, MrqError))
        if frames or not isinstance(above, MrqError):  # what is behind our own message is our affair
            parts.append(f"caused by {_type_name(cause)}: {shortened_line(_text(cause))}\n{frames}".rstrip())
    return "\n".join(part for part in parts if part)


def _closed(exc: BaseException) -> bool:
    """Whether the engine found a file closed that it had open: only the job's code can have done that."""
    chain = causes(exc, _CAUSES_MAX)
    bad = any(isinstance(each, OSError) and each.errno == errno.EBADF for each in chain)
    return bad and not any(map(_shows_users, chain))


def _shows_users(exc: BaseException) -> bool:
    """Whether a frame of the user's is in its traceback."""
    from mrq.job.source import user_frame

    return user_frame(exc.__traceback__) is not None


def _pulled(exc: BaseException) -> bool:
    """Whether it was raised where the engine called into the user's side, and so isn't the engine's."""
    trace = exc.__traceback__
    if trace is None or isinstance(exc, AssertionError):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_name in _PULLS and _engine(code.co_filename)


def shortened_line(text: str) -> str:
    """The first line, cut."""
    line = text.split("\n", 1)[0]
    return line if len(line) <= 200 else line[:200] + "…"


def _frames(exc: BaseException, *, ours: bool) -> str:
    """The frames that aren't the engine's: from the user's own one on, with libraries called from there.

    Without any of the user's: all of them if `ours`, for that is a bug of ours, or none.
    """
    import traceback

    from mrq.job.source import is_users

    try:
        entries = list(traceback.extract_tb(exc.__traceback__))
        first = next((i for i, entry in enumerate(entries) if is_users(entry.filename)), None)
        if first is None:
            entries = entries if ours and not isinstance(exc, MrqError) else []
        else:
            entries = [entry for entry in entries[first:] if not _engine(entry.filename)]
        if len(entries) > _FRAMES_MAX:
            cut = traceback.FrameSummary("…", 0, f"{len(entries) - _FRAMES_MAX} frames left out", line="")
            entries = [*entries[: _FRAMES_MAX // 2], cut, *entries[-_FRAMES_MAX // 2 :]]
        return "".join(traceback.format_list(entries)).rstrip()
    except BaseException as broken:  # noqa: BLE001 whatever it is, the error itself must be told
        return f"(its frames can't be shown: {type(broken).__name__})"


def _engine(filename: str) -> bool:
    import os

    import mrq

    return filename.startswith(os.path.dirname(mrq.__file__) + os.sep)
