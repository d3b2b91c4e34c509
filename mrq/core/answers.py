"""Errors in the leader's answers: sent by their class's name, raised again as that class at the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrq import errors
from mrq.errors import InternalError, MrqError


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
