"""A setting that means nothing for a job is refused by name, on whichever side it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mrq
import mrq.testing
from mrq import planning
from mrq.cli import app
from mrq.cli.options import submit_request
from mrq.cli.parser import parse
from mrq.engine.local import local_engine
from mrq.errors import UsageError
from mrq.planning import Request
from mrq.settings.job import SETTINGS
from mrq.settings.run import SUBMIT

SAID = {
    "jsonl": "its input format is jsonl: JSON is read in UTF-8 (lines in another encoding: read them with "
    '`input_format="text"`, and parse them in map)',
    "whole": "its input format is whole: map gets the bytes of each file, and decodes them itself",
    "records": "its input format is records: map gets keys and values as they were written",
}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))


class Words(mrq.Job):
    def map(self, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
        yield key, value


class Latin(Words, encoding="latin-1"):
    pass


def draft(job: type[mrq.Job], **overrides: Any) -> planning.Draft:
    return planning.draft(Request(ref=job, inputs=["in"], output="out", overrides=overrides))


@pytest.mark.parametrize("form", SAID)
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", None])
def test_an_encoding_of_what_is_not_text(form: str, encoding: str | None) -> None:
    in_class = type("InClass", (Words,), {}, input_format=form, encoding=encoding)
    given: list[tuple[Callable[[], object], str]] = [
        (lambda: draft(Words, input_format=form, encoding=encoding), f"leave out `encoding={encoding}`"),
        (lambda: draft(in_class), "leave encoding out of its class"),
        (lambda: draft(in_class, input_format=form), 'give `encoding="utf-8"` too, for this run'),
        (lambda: mrq.testing.run(in_class, []), "leave encoding out of its class"),
    ]
    for call, advice in given:
        with pytest.raises(UsageError) as caught:
            call()
        assert (
            f"has the encoding {encoding!r}, which only text is read in, and {SAID[form]}; {advice}"
            in str(caught.value)
        )
    assert draft(in_class, input_format="text").spec.first.encoding in ("iso8859-1", "ascii", None)
    assert draft(in_class, encoding="utf-8").spec.first.input_format == form
    assert draft(type("Plain", (Words,), {}, input_format=form)).spec.first.encoding == "utf-8"


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        (("--encoding", "latin-1"), "leave out `--encoding latin-1`"),
        (("--encoding", "none"), "leave out `--encoding none`"),
    ],
)
def test_an_encoding_is_refused_in_flags(
    flags: tuple[str, ...], advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.py").write_text(
        "import mrq\nclass J(mrq.Job):\n    def map(self, key, value): yield 1, 1\n"
    )
    words = [str(tmp_path / "job.py"), "in", "-o", "out", "--input-format", "jsonl", *flags]
    assert app.run(["submit", *words]) == 2
    error = capsys.readouterr().err
    assert advice in error
    assert "read them with `--input-format text`" in error


def test_what_mrq_itself_wrote_is_in_no_encoding(tmp_path: Path) -> None:
    """A job of text in latin-1 can be tried with records, and take another's result."""
    made = planning.request_of(
        Latin, None, None, records=["é"], overwrite=False, overrides={}, folder=str(tmp_path)
    )
    assert planning.draft(made).spec.first.input_format == "records"
    with mrq.local(executors=1) as engine:
        first = engine.run(Latin(), records=["é"])
        assert list(first) == [(0, "é")]
        assert list(engine.run(Latin(), first)) == [(0, "é")]
        with pytest.raises(UsageError, match="leave out `encoding=latin-1`"):
            engine.run(Words(), first, encoding="latin-1")
        with pytest.raises(UsageError, match="leave out `encoding=latin-1`"):
            engine.run(Words(), records=["é"], encoding="latin-1")


def test_records_have_no_input_format() -> None:
    with local_engine(executors=1) as engine, pytest.raises(UsageError, match="leave out `input_format`"):
        engine.run(Words(), records=["1"], input_format="jsonl")


def test_reducers_where_nothing_is_reduced() -> None:
    in_class = type("InClass", (Words,), {}, reducers=2)
    said = "has no reduce: its parts are its maps' outputs; "
    for call, advice in (
        (lambda: draft(Words, reducers=2), "leave out `reducers=2`"),
        (lambda: draft(in_class), "leave reducers out of its class"),
        (lambda: mrq.testing.run(in_class, []), "leave reducers out of its class"),
        (lambda: mrq.testing.run(Words, [], reducers=1), "leave out `reducers=1`"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert said + advice in str(caught.value)
    assert mrq.testing.run(Words, ["a"]) == [(0, "a")]


TRIED = {"reducers", "sort_values", "order", "total_order", "output_format", "memory", "skip_bad_records"}


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - TRIED))
def test_what_a_test_cannot_try_is_refused_by_name(name: str) -> None:
    value: Any = {"inputs": {"a": "b"}, "compression": "gz", "ship": ["x"], "input_format": "jsonl"}.get(name)
    if value is None:
        value = {"encoding": "latin-1", "split_size": "1M", "progress_timeout": 5}.get(name, True)
    if name.startswith("max_") or name == "priority":
        value = 3
    with pytest.raises(UsageError, match=name):
        mrq.testing.run(Words, [], **{name: value})


def test_what_is_printed_is_not_packed() -> None:
    words = [__file__, "in", "-o", "-", "--compress"]
    with pytest.raises(UsageError, match="-o - prints the result as it is, and --compress gz packs"):
        submit_request(parse(SUBMIT, [*words, "gz"]))
    assert submit_request(parse(SUBMIT, [*words, "none"])).output is None


@pytest.mark.parametrize("flag", ["--skip-bad-records 3", "--max-failures 2", "--memory 64M", "--from old"])
def test_what_a_retry_sets_is_for_one_job(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["retry", *flag.split()]) == 2
    assert f"{flag.split()[0]} is for one job: mrq retry JOB" in capsys.readouterr().err
