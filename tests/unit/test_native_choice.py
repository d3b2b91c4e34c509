"""Which data path runs, by MRQ_NATIVE and by what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from mrq import native
from mrq.errors import UsageError


@pytest.fixture(autouse=True)
def found_anew() -> Iterator[None]:
    native._found.cache_clear()
    yield
    native._found.cache_clear()


def extension(monkeypatch: pytest.MonkeyPatch, interface: int | None) -> ModuleType | None:
    """Have an extension of this interface, or none."""
    module = None
    if interface is not None:
        module = ModuleType("mrq._native")
        module.INTERFACE = interface  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mrq._native", module)  # None: it can't be imported
    return module


def test_an_extension_is_used_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    module = extension(monkeypatch, native.INTERFACE)
    for choice in ("auto", "require", ""):
        monkeypatch.setenv("MRQ_NATIVE", choice)
        assert native.loaded() is module
        assert native.told() == "native data path"
        native.check()


def test_off_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    extension(monkeypatch, native.INTERFACE)
    monkeypatch.setenv("MRQ_NATIVE", "off")
    assert native.loaded() is None
    assert native.told() == "pure Python: MRQ_NATIVE=off"


def test_without_one_the_path_in_python_runs_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    extension(monkeypatch, None)
    monkeypatch.setenv("MRQ_NATIVE", "auto")
    assert native.loaded() is None
    assert native.told() == "pure Python: the native data path isn't built"
    native.check()
    monkeypatch.setenv("MRQ_NATIVE", "require")
    with pytest.raises(UsageError, match="isn't built; build it with `make`"):
        native.check()


def test_a_stale_one_is_not_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    extension(monkeypatch, native.INTERFACE - 1)
    monkeypatch.setenv("MRQ_NATIVE", "auto")
    assert native.loaded() is None
    assert f"its interface is {native.INTERFACE - 1}, and {native.INTERFACE} is wanted" in native.told()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_NATIVE", "always")
    with pytest.raises(UsageError, match="MRQ_NATIVE=always: give auto, off or require"):
        native.check()
