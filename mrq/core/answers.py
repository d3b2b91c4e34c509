"""The leader's answers: what people are shown is packed by `core.wire`; errors are sent by their class's name
and raised again as that class at the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mrq import errors
from mrq.core import wire
from mrq.core.info import JobInfo
from mrq.core.worker_info import LogInfo, WorkerInfo
from mrq.errors import InternalError, MrqError

#: By question: the field of its answer that has what people are shown, and what each of those is.
_SHOWN: Final[Mapping[str, tuple[str, type]]] = {
    "jobs": ("jobs", JobInfo),
    "status": ("jobs", JobInfo),
    "workers": ("workers", WorkerInfo),
    "logs": ("logs", LogInfo),
}


def packed(op: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer as it is sent."""
    if op not in _SHOWN or "error" in answer:
        return answer
    name, _ = _SHOWN[op]
    return {**answer, name: [wire.to_wire(each) for each in answer[name]]}


def unpacked(op: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer that was packed. Raises CorruptFileError for what no version has sent."""
    if op not in _SHOWN:
        return answer
    name, cls = _SHOWN[op]
    return {**answer, name: [wire.from_wire(cls, each) for each in answer.get(name, ())]}


def error_answer(exc: BaseException) -> dict[str, Any]:
    """An error as an answer carries it."""
    known = isinstance(exc, MrqError)
    kind = type(exc).__name__ if known else InternalError.__name__
    return {"error": {"type": kind, "message": str(exc) if known else f"a bug in mrq: {exc!r}"}}


def raise_error(answer: Mapping[str, Any]) -> None:
    """Raise the error that an answer carries, if it does."""
    told = answer.get("error")
    if isinstance(told, Mapping):
        raise error_of(str(told.get("type")), str(told.get("message")))


def error_of(kind: str, message: str) -> MrqError:
    """The error of that class; a class that isn't known here is an InternalError."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, MrqError):
        return found(message)
    return InternalError(f"{kind}: {message}")
