"""docs/json.md says what `--json` prints: every field of every object, by the classes themselves."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from doc_pages import pages
from json_objects import check, checked

from mrq.cli.console import print_json
from mrq.cli.objects import ANSWERS, Failure, Jobs, JsonAnswer, LogLine
from mrq.cli.session import Session
from mrq.core.info import ErrorInfo, JobInfo, StageInfo
from mrq.core.model import ErrorReport, JobState, Status

PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8")


def sections() -> dict[str, dict[str, tuple[str, str]]]:
    """Of each section of the page: type and text by field."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for part in PAGE.split("\n### ")[1:]:
        part = part.partition("<!--")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", part, re.MULTILINE)
        found[part.split("\n")[0]] = {name: (kind, text) for name, kind, text in rows}
    return found


def test_every_field_of_every_object_is_on_the_page_with_what_it_means() -> None:
    found = sections()
    seen: list[Any] = [*ANSWERS, LogLine]
    for cls in seen:
        own = {f.name for f in dataclasses.fields(cls)}
        if issubclass(cls, JsonAnswer) and cls is not JsonAnswer:
            own -= {f.name for f in dataclasses.fields(JsonAnswer)}
        assert found[cls.__name__].keys() == own
        for name, (kind, text) in found[cls.__name__].items():
            assert text.strip(), f"{cls.__name__}.{name} says nothing"
            for other in re.findall(r"\[(\w+)\]", kind):
                seen += [each for each in pages.named() if each.__name__ == other and each not in seen]
    assert {each.__name__ for each in seen} == set(found), "no section is of something that isn't printed"


def test_the_table_of_before_names_only_fields_that_there_are() -> None:
    table = PAGE[PAGE.index("| version 1 | version 2 |") :].splitlines()[2:]
    known = {name for cls in pages.named() for name in (*pages.hints(cls), *pages.comments(cls))} | {
        "map",
        "reduce",
        "null",
    }
    for row in table:
        new = row.split(" | ")[-1]
        for path in re.findall(r"`([\w.\[\]]+)`", new):
            assert set(re.split(r"[.\[\]]+", path.strip("[].0123456789"))) - {""} <= known, row


def test_what_is_printed_has_the_fields_by_their_names(capfd: pytest.CaptureFixture[str]) -> None:
    job = JobInfo(
        job="j", state=JobState.FAILED, stages=(StageInfo(name="map"),),
        errors=(ErrorInfo(status=Status.LOST), ErrorInfo(error=ErrorReport(type="E", message="m"))),
        counters={"n": 2**70},
    )  # fmt: skip
    error = Failure(type="JobFailed", message="no", attempts=(ErrorReport(type="E", message="m"),))
    session = Session(job="j", notes=("`max_failures=2` helps",), info=job)
    session.answer(JsonAnswer, "failed", 1, error=error)
    value = checked(capfd.readouterr().out)
    assert (value["version"], value["status"], value["exit_code"]) == (2, "failed", 1)
    assert value["info"]["state"] == "failed"
    assert value["info"]["errors"][1]["error"]["type"] == value["error"]["attempts"][0]["type"] == "E"
    assert value["info"]["counters"] == {"n": 2**70}
    assert value["notes"] == ["`--max-failures 2` helps"]
    Session().answer(Jobs, "listed", jobs=(job,), now=3.0)
    assert checked(capfd.readouterr().out, Jobs)["jobs"][0]["job"] == "j"


CHANGES: list[dict[str, Any]] = [
    {"more": 1}, {"state": "odd"}, {"priority": "1"}, {"stages": {}}, {"stages": [{}]}, {"job": None},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_isnt_of_the_page_is_found(change: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    print_json(JobInfo())
    value = json.loads(capfd.readouterr().out)
    check(value, JobInfo, "job")
    with pytest.raises(AssertionError):
        check({**value, **change}, JobInfo, "job")
    with pytest.raises(AssertionError):
        check({name: each for name, each in value.items() if name != "job"}, JobInfo, "job")
