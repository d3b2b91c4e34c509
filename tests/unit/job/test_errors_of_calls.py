"""Whatever is called wrongly raises an error of ours, which is Python's own of that kind too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq import planning
from mrq.engine.local import local_engine
from mrq.errors import JobDefinitionError, StillRunningError, UsageError
from mrq.handle import Handle
from mrq.planning import Request

run: Any = mrq.run
connect: Any = mrq.connect
in_a_test: Any = mrq.testing.run
top: Any = mrq.top
bottom: Any = mrq.bottom


class Words(mrq.Job):
    reduce = mrq.sum

    def map(self, key: int, line: str) -> list[tuple[str, int]]:
        return [(word, 1) for word in line.split()]


class Grep(mrq.Job):
    pattern: str
    limit: int = 3

    def map(self, key: int, line: str) -> list[tuple[str, None]]:
        return [(line, None)]


class Blocks(mrq.Job):
    def map_block(self, block: bytes) -> dict[str, int]:
        return {}


class Texts(Words, input_format="text"):
    pass


class First(Words):
    n: int = 3
    reduce = mrq.top("n")


grep: Any = Grep
first: Any = First
words: Any = Words


def subclass(fields: dict[str, Any], **keywords: Any) -> None:
    type("Wrong", (mrq.Job,), fields, **keywords)


CALLS: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (TypeError, "Grep needs pattern=…", lambda: grep()),
    (TypeError, "did you mean 'pattern'?", lambda: grep(patern="x")),
    (TypeError, "Grep takes its parameters by name: write Grep(pattern=…)", lambda: grep("x")),
    (TypeError, "write Grep(pattern=…, limit=…)", lambda: grep("x", 3)),
    (TypeError, "Words takes its parameters by name: it has none", lambda: words(1)),
    (TypeError, "no setting 'nope'", lambda: subclass({}, nope=1)),
    (TypeError, "memory must be", lambda: subclass({}, memory="1K")),
    (TypeError, "is the engine's name", lambda: subclass({"__annotations__": {"task": int}})),
    (TypeError, "can't begin with an underscore", lambda: subclass({"__annotations__": {"_n": int}})),
    (TypeError, "mrq.top(n) takes how many", lambda: top(None)),
    (TypeError, "key must be a function", lambda: top(3, key=1)),
    (TypeError, "mrq.sum is called with a group", lambda: mrq.sum([1, 2])),
    (TypeError, "mrq.top('n') names a parameter", lambda: top("n")(1, [2])),
    (TypeError, "key must be a function", lambda: bottom(3, key="len")),
    (ValueError, "mrq.bottom(0) keeps nothing", lambda: bottom(0)),
    (TypeError, "the name of a profile", lambda: connect(5)),
    (ValueError, "timeout_s must be a time", lambda: connect("redis://nowhere/0", timeout_s=-1)),
    (ValueError, "timeout_s must be a time", lambda: connect("redis://nowhere/0", timeout_s="soon")),
    (TypeError, "records is a list", lambda: in_a_test(Words, 5)),
    (
        TypeError,
        "no setting 'memory_bytes'; did you mean 'memory'?",
        lambda: in_a_test(Words, [], memory_bytes=1),
    ),
    (TypeError, "int is not a job", lambda: in_a_test(5, ["a"])),
    (TypeError, "can't try max_losses", lambda: in_a_test(Words, ["a"], max_losses=3)),
    (TypeError, "records must be str, not b'a'", lambda: in_a_test(Texts, [b"a"])),
    (TypeError, "records must be lines", lambda: in_a_test(Blocks, [5])),
    (ValueError, "is one line, without its end", lambda: in_a_test(Blocks, ["a\n"])),
    (TypeError, "parameter limit of Grep must be int", lambda: in_a_test(grep(pattern="", limit="x"), ["a"])),
    (ValueError, "names a RabbitMQ", lambda: connect("amqp://nowhere")),
    (ValueError, "there is no profile 'nowhere'", lambda: connect("nowhere")),
    (ValueError, "must be", lambda: connect("redis://")),
]


@pytest.mark.parametrize(("kind", "said", "call"), CALLS, ids=[said for _, said, _ in CALLS])
def test_a_wrong_call_is_ours_and_python_s(
    kind: type[Exception], said: str, call: Callable[[], object]
) -> None:
    with pytest.raises(mrq.MrqError) as caught:
        call()
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, UsageError)
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with local_engine(executors=1, root=str(tmp_path_factory.mktemp("root"))) as made:
        yield made


STARTS: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (TypeError, "records is a list", (Words,), {"records": 5}),
    (TypeError, "inputs is a list, such as inputs=", (Words, 5), {}),
    (TypeError, "inputs is a list of paths: inputs=['a']", (Words, "a"), {}),
    (TypeError, "inputs is a list of paths: inputs=[b'a']", (Words, b"a"), {}),
    (TypeError, "1 is not a path", (Words, [1]), {}),
    (TypeError, "1 is not a path", (Words, ["a"], 1), {}),
    (TypeError, "overwrite must be True or False, not 'yes'", (Words, ["a"], "out"), {"overwrite": "yes"}),
    (ValueError, "no file can have this name", (Words, ["a\0b"]), {}),
    (ValueError, "no file can have this name", (Words, ["a\ud800"]), {}),
    (ValueError, "no file can have this name", (Words, ["a"], "b\0"), {}),
    (ValueError, "no file can have this name", (Words, ["a"], "b\ud800"), {}),
    (JobDefinitionError, "5 is not a job", (5, ["a"]), {}),
    (TypeError, "memory must be a size of at least 16M, not '1K'", (Words, ["a"]), {"memory": "1K"}),
    (TypeError, "leave out `input_format`", (Words,), {"records": ["a"], "input_format": "text"}),
    (TypeError, "no setting 'reducer'; did you mean 'reducers'?", (Words, ["a"]), {"reducer": 1}),
    (TypeError, "give inputs or records=", (Words,), {}),
    (ValueError, "inputs is empty; name files, folders, globs or URLs in it", (Words, []), {}),
    (ValueError, "inputs is empty", (Words, iter(())), {}),
    (ValueError, "INPUT is empty", (Words, [""]), {}),
    (ValueError, "OUT is empty", (Words, ["a"], ""), {}),
    (ValueError, "OUT is a folder", (Words, ["a"], "s3://bucket/out"), {}),
    (ValueError, "has no reduce", (Blocks, ["a"], "out"), {"reducers": 3}),
    (ValueError, "takes lines of bytes", (Blocks, ["a"], "out"), {"input_format": "whole"}),
    (
        ValueError,
        "has the encoding 'latin-1'",
        (Words, ["a"]),
        {"input_format": "jsonl", "encoding": "latin-1"},
    ),
    (ValueError, "reads whole lines", (Words, ["a"]), {"input_format": "whole", "as_of_now": True}),
    (ValueError, "standard input is read to its end", (Words, ["-"]), {"as_of_now": True}),
    (ValueError, "reads files on a disk", (Words, ["http://host/a"]), {"as_of_now": True}),
    (TypeError, "Grep needs pattern", (Grep, ["a"]), {}),
    (TypeError, "parameter limit of Grep must be int", (grep(pattern="", limit="x"), ["a"]), {}),
    (TypeError, "parameter limit of Grep", (grep(pattern="", limit=object()), ["a"]), {}),
    (ValueError, "takes a whole number of at least 1 from it", (first(n=0), ["a"]), {}),
]


@pytest.mark.parametrize(("kind", "said", "given", "named"), STARTS)
def test_a_wrong_run_is_refused_by_name_before_anything_runs(
    kind: type[Exception], said: str, given: tuple[Any, ...], named: dict[str, Any], engine: Any
) -> None:
    for call in (engine.run, engine.start):
        with pytest.raises(UsageError) as caught:
            call(*given, **named)
        assert isinstance(caught.value, kind)
        assert said in str(caught.value)
        assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("executors", "kind"),
    [("3", TypeError), (0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)],
)
def test_a_wrong_number_of_executors(executors: Any, kind: type[Exception]) -> None:
    for call in (mrq.local, lambda executors: run(Words, ["a"], executors=executors)):
        with pytest.raises(UsageError, match="executors must be") as caught:
            call(executors=executors)
        assert isinstance(caught.value, kind)


def test_this_machine_s_engine_speaks_of_no_cluster(engine: Any) -> None:
    """Its leader answers the questions of a cluster's."""
    asked: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UsageError, "status", {"job": "nosuch"}),
        (UsageError, "logs", {"job": "nosuch"}),
        (UsageError, "cancel", {"job": "nosuch"}),
        (UsageError, "retry", {"job": "nosuch"}),
        (UsageError, "drain", {"worker": "nosuch"}),
        (UsageError, "workers", {"worker": "nosuch"}),
        (ValueError, "nosuch", {}),
        (TypeError, "status", {}),
    ]
    for kind, question, given in asked:
        with pytest.raises(UsageError) as caught:
            engine.ask(question, **given)
        assert isinstance(caught.value, kind)
        assert "cluster" not in str(caught.value)
        assert "nosuch" in str(caught.value) or not given


def test_a_job_that_goes_on_is_a_timeout_of_ours() -> None:
    handle = Handle("j", cancel=lambda handle: None, view=lambda job: None)
    with pytest.raises(mrq.MrqError, match="job j isn't over after 0 s") as caught:
        handle.result(0)
    assert isinstance(caught.value, TimeoutError)
    assert type(caught.value) is StillRunningError
    for wait in (handle.wait, handle.result):
        with pytest.raises(TypeError, match="timeout_s must be a number") as wrong:
            wait("soon")  # type: ignore[arg-type]
        assert isinstance(wrong.value, mrq.MrqError)


def test_a_name_with_bytes_that_are_not_utf_8_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a\udcff.txt"
    path.write_bytes(b"a\n")
    assert planning.plan(Request(ref=Words, inputs=[str(path)])).files[0].path == str(path)


def test_advice_to_programs_is_in_python_s_words(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    for job, overrides, said in (
        (Grep, {}, "Grep needs pattern: str; write `Grep(pattern=…)`"),
        (Grep(pattern="x"), {"reducers": 2}, "leave out `reducers=2`"),
    ):
        with pytest.raises(UsageError) as caught:
            planning.plan(Request(ref=job, inputs=[str(tmp_path / "in.txt")], overrides=overrides))
        assert said in str(caught.value)
