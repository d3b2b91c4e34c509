"""MRQ_DEBUG's grammar."""

from __future__ import annotations

import pytest

from mrq.errors import UsageError
from mrq.worker.debug import DebugSwitch, Fault, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fail_after=3", DebugSwitch(after=3, fault=Fault.CRASH)),
        ("fail_after=0:crash", DebugSwitch(after=0, fault=Fault.CRASH)),
        (" fail_after=12:hang ", DebugSwitch(after=12, fault=Fault.HANG)),
        ("fail_after=1:error", DebugSwitch(after=1, fault=Fault.ERROR)),
        ("", None),
    ],
)
def test_what_is_understood(text: str, expected: DebugSwitch | None) -> None:
    assert parse({"MRQ_DEBUG": text}) == expected


def test_not_set() -> None:
    assert parse({}) is None


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "fail_after",
        "fail_after=",
        "fail_after=-1",
        "fail_after=x",
        "fail_after=1:",
        "fail_after=1:die",
    ],
)
def test_what_is_not_understood_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match=r"fail_after=N\[:crash\|hang\|error\]"):
        parse({"MRQ_DEBUG": text})


def test_it_says_what_it_does() -> None:
    assert (
        str(DebugSwitch(after=2, fault=Fault.HANG))
        == "MRQ_DEBUG: after 2 tasks of a worker, the next one hangs"
    )
