"""What is shown travels packed, errors by the name of their class."""

from __future__ import annotations

import msgpack
import pytest

from mrq.core.answers import error_answer, error_of, packed, raise_error, unpacked
from mrq.core.info import JobInfo
from mrq.core.worker_info import LogInfo, WorkerInfo
from mrq.errors import InputError, InternalError, OutputError


def test_an_error_comes_back_as_what_it_was() -> None:
    with pytest.raises(OutputError, match="out exists"):
        raise_error(error_answer(OutputError("out exists")))


def test_a_bug_comes_back_as_one() -> None:
    with pytest.raises(InternalError, match="a bug in mrq: ZeroDivisionError"):
        raise_error(error_answer(ZeroDivisionError("x")))


def test_names_that_are_no_errors_of_ours_raise_nothing_else() -> None:
    assert type(error_of("InputError", "x")) is InputError
    for name in ("annotations", "Exception", "SystemExit", "Nope"):
        assert type(error_of(name, "x")) is InternalError


def test_an_answer_without_an_error_raises_nothing() -> None:
    raise_error({"job": "j"})


@pytest.mark.parametrize(
    ("op", "answer"),
    [
        ("jobs", {"jobs": [JobInfo(job="a"), JobInfo(job="b")], "now": 3.0}),
        ("status", {"jobs": [JobInfo(job="a")], "now": 3.0}),
        ("workers", {"workers": [WorkerInfo(worker="w")], "leader": "m", "now": 3.0}),
        ("logs", {"logs": [LogInfo(task="m-00000")]}),
        ("cancel", {"state": "done"}),
        ("read", {"data": b"x", "size": 1}),
    ],
)
def test_what_is_shown_comes_back_as_it_was(op: str, answer: dict[str, object]) -> None:
    sent = msgpack.unpackb(msgpack.packb(packed(op, answer)))
    assert unpacked(op, sent) == answer
