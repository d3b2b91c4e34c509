"""`Job`: class keywords, annotated parameters, instances, and what it leaves to the user's namespace."""

from __future__ import annotations

import io
import logging
import random
import sys
from typing import Any, ClassVar

import pytest

import mrq
from mrq.errors import UsageError
from mrq.job import context
from mrq.job.base import HOOKS, Job, defined, parameter_values
from mrq.settings.checks import parse_size
from mrq.settings.job import SETTINGS, JobSettings, Keywords, resolve
from mrq.worker import progress_page


class Base(Job, sort_values=True, reducers=3):
    gap_s: int = 1800
    names: list[str] = []  # noqa: RUF012 - copied for each instance, which is what is tested
    LIMIT: ClassVar[int] = 9

    def map(self, key: int, line: str) -> list[tuple[str, int]]:
        return [(line, key)]


class Derived(Base, reducers=5):
    gap_s = 60
    pattern: str


def test_settings_are_inherited_and_overridden() -> None:
    assert resolve(Base).reducers == 3
    assert resolve(Derived) == JobSettings(sort_values=True, reducers=5)
    assert resolve(Derived, {"reducers": 7, "memory": "64M"}).memory_bytes == 64 << 20
    assert resolve(Derived, {"reducers": 7}).reducers == 7
    assert resolve(Base).encoding == "utf-8"
    assert resolve(Base, {"encoding": None}).encoding is None


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"sort_value": True}, "no setting 'sort_value'; did you mean 'sort_values'?"),
        ({"zzz": 1}, "no setting 'zzz'; there are all_files, allow_empty, as_of_now, backups,"),
        ({"sort_values": 1}, "sort_values must be True or False, not 1"),
        ({"order": "totl"}, "order must be one of total, hashed, not 'totl'; did you mean 'total'?"),
        ({"reducers": 0}, "reducers must be a number from 1 to 10,000, not 0"),
        ({"reducers": -3}, "from 1 to 10,000, not -3"),
        ({"reducers": 100_000}, "from 1 to 10,000, not 100000"),
        ({"reducers": "4"}, "reducers must be a whole number from 1 to 10,000, not '4'"),
        ({"memory": "lots"}, "memory must be a size such as 512M or 2G, not 'lots'"),
        (
            {"encoding": "utf-88"},
            "encoding must be an encoding that Python knows, such as latin-1, not",
        ),
        ({"compression": "rar"}, "compression must be one of gz, bz2, xz, zst, none, not 'rar'"),
        ({"progress_timeout": -1}, "progress_timeout must be a time above 0 and of at most 365d, not -1"),
        ({"inputs": {"users": "csv"}}, "named inputs come in a later version"),
        ({"order": "total", "total_order": True}, "are the same; give one"),
    ],
)
def test_a_wrong_class_keyword_is_a_type_error_at_the_class(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        type("Wrong", (Job,), {}, **keywords)
    assert said in str(caught.value)
    assert str(caught.value).startswith("Wrong: ")


def test_type_checkers_know_every_setting() -> None:
    assert set(Keywords.__annotations__) == set(SETTINGS)


def test_total_order_is_the_same_as_order() -> None:
    plain: Any = type("Plain", (Job,), {}, total_order=True)
    assert resolve(plain).order == "total"
    assert resolve(type("Off", (plain,), {}, total_order=False)).order is None
    assert resolve(type("Other", (plain,), {}, order=None)).order is None
    assert resolve(type("Same", (Job,), {}, order="total")) == resolve(plain)


def test_an_unknown_override_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="Base: no setting 'reducer'; did you mean 'reducers'"):
        resolve(Base, {"reducer": 2})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("64k", 65536),
        ("64KiB", 65536),
        ("1.5g", 3 << 29),
        ("2 G", 2 << 30),
        (77, 77),
        ("3mb", 3 << 20),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "0", "-1", "1e400", "1x", True, None, 2.5, "nan"])
def test_wrong_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="a size"):
        parse_size(text)


def test_parameters_are_keywords_with_defaults() -> None:
    job = Derived(pattern="x")
    assert parameter_values(job) == {"gap_s": 60, "names": [], "pattern": "x"}
    assert repr(job) == "Derived(gap_s=60, names=[], pattern='x')"
    assert Derived(pattern="y", gap_s=1).gap_s == 1
    assert "LIMIT" not in Derived.__mrq_parameters__


def test_mutable_defaults_are_copied() -> None:
    first, second = Base(), Base()
    first.names.append("x")
    assert second.names == []
    assert Base().names == []


def test_missing_and_unknown_parameters_are_named() -> None:
    with pytest.raises(TypeError, match="Derived needs pattern=…: no default is given in the class"):
        Derived()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Derived has no parameter 'patern'; did you mean 'pattern'"):
        Derived(patern="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Derived("x")  # type: ignore[misc]


def test_a_parameter_cannot_take_the_engine_s_names() -> None:
    for name in ("task", "counters", "map", "reduce"):
        with pytest.raises(TypeError, match="is the engine's name"):
            type("Wrong", (Job,), {"__annotations__": {name: int}})
    with pytest.raises(TypeError, match=r"Wrong\._state: a parameter's name can't begin with an underscore"):
        type("Wrong", (Job,), {"__annotations__": {"_state": dict}})


def test_string_annotations_of_classvar_are_no_parameters() -> None:
    notes = {"a": "ClassVar[int]", "b": "typing.ClassVar", "c": "int"}
    cls: Any = type("Mixed", (Job,), {"__annotations__": notes, "c": 1})
    assert list(cls.__mrq_parameters__) == ["c"]


def test_several_bases_bring_their_parameters_and_settings() -> None:
    class Left(Job, reducers=2):
        left: int = 1

    class Right(Job, backups=False):
        right: int = 2

    class Both(Left, Right):
        pass

    assert parameter_values(Both()) == {"right": 2, "left": 1}
    assert resolve(Both) == JobSettings(reducers=2, backups=False)


def test_the_base_defines_no_hook_and_takes_no_other_name() -> None:
    assert not any(hasattr(Job, hook) for hook in HOOKS)
    assert {name for name in dir(Job) if not name.startswith("__")} == set()
    assert {name for name in vars(Base()) if name not in Base.__mrq_parameters__} == {"task", "counters"}
    assert defined(Base, "map")
    assert not defined(Base, "reduce")
    without: Any = type("Without", (Base,), {"map": None})
    assert not defined(without, "map")


def test_a_job_made_by_hand_can_be_called() -> None:
    job = Base()
    job.counters["seen"] += 1
    assert job.counters == {"seen": 1}
    assert (job.task.id, job.task.path, job.task.attempt) == ("", "", 0)
    job.task.progress()


def test_rng_is_seeded_by_job_and_task_and_not_by_attempt() -> None:
    first = context.Task(id="m-00001", attempt=1, seed=7).rng.random()
    assert first == context.Task(id="m-00001", attempt=2, seed=7).rng.random()
    assert first == random.Random("mrq:7:m-00001").random()
    assert first != context.Task(id="m-00002", attempt=1, seed=7).rng.random()
    assert first != context.Task(id="m-00001", attempt=1, seed=8).rng.random()


def test_progress_moves_the_page() -> None:
    cells = memoryview(bytearray(progress_page.SIZE)).cast("q")
    task = context.Task(id="m-00000", page=cells)
    task.progress()
    task.progress()
    assert context.PAGE_TICKS == progress_page.TICKS
    assert cells[progress_page.TICKS] == 2


def test_log_writes_to_the_stderr_of_the_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own; executors have none
    logger = logging.getLogger("mrq.task")
    try:
        Base().task.log.info("one %s", 1)
        assert capsys.readouterr().err.endswith(" INFO one 1\n")
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        Base().task.log.info("two")
        assert sys.stderr.getvalue().count("two") == 1  # type: ignore[attr-defined]
    finally:
        logger.handlers.clear()
        logger.propagate = True


def test_bind_gives_a_fresh_attempt() -> None:
    job = Base()
    job.counters["old"] += 1
    task = context.Task(id="r-00003", attempt=2)
    context.bind(job, task)
    assert job.task is task
    assert not job.counters


def test_pair() -> None:
    pair = mrq.Pair("a", 1)
    assert pair == mrq.Pair("a", 1)
    assert pair != ("a", 1)
    assert not isinstance(pair, tuple)
    assert repr(pair) == "mrq.Pair('a', 1)"
    assert len({pair, mrq.Pair("a", 1)}) == 1
