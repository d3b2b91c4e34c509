"""Errors travel by the name of their class."""

from __future__ import annotations

import pytest

from mrq.core.answers import error_answer, error_of, raise_error
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
