"""Every setting, given from every side, is taken or refused alike, and refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import mrq
from mrq import client, planning
from mrq.cli import app
from mrq.cli.options import submit_request
from mrq.cli.parser import parse
from mrq.cli.wording import in_flags
from mrq.core.model import Limits
from mrq.engine.engine import Engine
from mrq.engine.local import local_engine
from mrq.engine.remote import cluster_engine
from mrq.errors import MrqError, UsageError
from mrq.master import submissions
from mrq.planning import Request
from mrq.settings.cluster import Profile, load
from mrq.settings.job import SETTINGS, resolve, retry_limits
from mrq.settings.run import SUBMIT
from mrq.settings.table import Setting, ValueKind, Where

#: What no setting of that kind takes: as Python has it, and where it can be typed, as a flag's value.
BAD: dict[ValueKind, tuple[tuple[Any, str | None], ...]] = {
    ValueKind.SWITCH: ((1, None), ("yes", None), (None, None)),
    ValueKind.COUNT: (
        (-1001, "-1001"),
        ("many", "many"),
        (2_000_000_000, "2000000000"),
        ("1.5", "1.5"),
        ("", ""),
        (2.0, None),
        (True, None),
        ([1], None),
    ),
    ValueKind.SIZE: (
        ("lots", "lots"),
        ("0", "0"),
        (-1, "-1"),
        ("9000000000T", "9000000000T"),
        ("1e400", "1e400"),
        (1.5, None),
        (True, None),
        (b"1M", None),
    ),
    ValueKind.TIME: (
        ("soon", "soon"),
        ("0", "0"),
        ("-1", "-1"),
        ("400d", "400d"),
        (0, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
    ),
    ValueKind.PATHS: (("x", None), (3, None), ([1], None), ([""], None), (None, None)),
    ValueKind.WORD: (
        ("nonsense", "nonsense"),
        ("", ""),
        (3, None),
        (True, None),
        (b"text", None),
        (["text"], None),
    ),
}
#: … and what only that setting doesn't.
BAD_OF: dict[str, tuple[tuple[Any, str | None], ...]] = {
    "reducers": ((0, "0"), (10_001, "10001")),
    "memory": (("1K", "1K"), ((16 << 20) - 1, None)),
    "max_failures": ((0, "0"),),
    "max_losses": ((0, "0"), (None, None)),
    "max_worker_losses": ((0, "0"), ("auto", "auto")),
    "max_running": ((0, "0"),),
    "priority": ((1001, "1001"), (None, None)),
    "encoding": (
        ("utf-16", "utf-16"),
        ("utf-32-le", "utf-32-le"),
        ("utf-7", "utf-7"),
        ("cp037", "cp037"),
        ("rot13", "rot13"),
        ("utf-88", "utf-88"),
    ),
    "order": (("totl", "totl"),),
    "compression": (("gzip", "gzip"),),
}
GOOD: dict[ValueKind, tuple[tuple[Any, str | None], ...]] = {
    ValueKind.SWITCH: ((True, ""), (False, "off")),
    ValueKind.COUNT: ((7, "7"),),
    ValueKind.SIZE: (("64M", "64M"), (1 << 30, str(1 << 30)), ("1.5GiB", "1.5GiB")),
    ValueKind.TIME: (("10m", "10m"), (90, "90"), (0.5, "0.5s"), ("7d", "7d")),
    ValueKind.WORD: (),
    ValueKind.PATHS: (([], None), ((), None)),
}
GOOD_OF: dict[str, tuple[tuple[Any, str | None], ...]] = {
    "reducers": ((12, "12"), (None, "auto"), ("auto", "auto")),
    "memory": (("16M", "16M"), (None, "auto")),
    "split_size": (("1", "1"), (None, "auto")),
    "order": (("total", "total"), (None, "hashed"), ("hashed", "hashed")),
    "input_format": tuple((name, name) for name in ("text", "jsonl", "whole", "records")),
    "output_format": tuple((name, name) for name in ("text", "lines", "jsonl", "records")),
    "compression": (("gz", "gz"), ("bz2", "bz2"), ("xz", "xz"), (None, "none"), ("none", "none")),
    "encoding": (("latin-1", "latin-1"), ("UTF8", "UTF8"), ("gb18030", "gb18030"), (None, "none")),
    "max_failures": ((None, "auto"),),
    "progress_timeout": ((None, "auto"),),
    "skip_bad_records": ((0, "0"),),
    "priority": ((-1000, "-1000"), (1000, "1000")),
    "max_running": ((None, "none"),),
}


def of(by_kind: Any, by_name: Any) -> list[Any]:
    return [
        pytest.param(row, value, text, id=f"{name}-{value!r}")
        for name, row in SETTINGS.items()
        if name != "inputs"
        for value, text in (*by_kind[row.kind], *by_name.get(name, ()))
    ]


class Job(mrq.Job):
    reduce = mrq.count

    def map(self, key: int, line: str) -> list[tuple[str, int]]:
        return [(line, 1)]


class Sides:
    """All ways to give a setting: each returns what is planned of it, or raises."""

    def __init__(self, folder: Path, local: Engine, cluster: Engine) -> None:
        self.source = str(folder / "in.txt")
        self.local = local
        self.cluster = cluster

    def keyword(self, name: str, value: Any) -> type[mrq.Job]:
        made: type[mrq.Job] = type("Job", (Job,), {"__module__": __name__}, **{name: value})
        return made

    def plan(self, name: str, value: Any) -> planning.Plan:
        return planning.plan(Request(ref=Job, inputs=[self.source], overrides={name: value}))

    def engine(self, name: str, value: Any) -> None:
        self.local.start(Job, [self.source], **{name: value})

    def draft(self, name: str, value: Any) -> planning.Draft:
        return self.cluster.draft(Request(ref=Job, inputs=[self.source], overrides={name: value}))

    def testing(self, name: str, value: Any) -> list[Any]:
        return mrq.testing.run(Job, ["a", "b"], **{name: value})

    def leader(self, name: str, value: Any) -> None:
        """A client that doesn't check: the leader does."""
        draft, row = self.cluster.draft(Request(ref=Job, inputs=[self.source])), SETTINGS[name]
        if hasattr(draft, row.field):
            draft = replace(draft, **{row.field: value})
        elif hasattr(draft.spec.first, row.field):
            stage = replace(draft.spec.first, **{row.field: value})
            draft = replace(draft, spec=replace(draft.spec, stages=(stage,)))
        else:
            draft = replace(draft, spec=replace(draft.spec, **{row.field: value}))
        submissions._refuse(draft)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("sides")
    (folder / "in.txt").write_text("a\nb\n")
    from mrq.settings import cluster as profile

    urls = {"MRQ_AMQP_URL": "amqp://nowhere/", "MRQ_REDIS_URL": "redis://nowhere/0"}
    with (
        local_engine(executors=1, root=str(folder / "tmp")) as local,
        cluster_engine(profile.load(None, flags={}, env=urls, cwd=str(folder))) as cluster,
    ):
        yield Sides(folder, local, cluster)


def said(side: Callable[..., Any], *given: Any) -> str:
    """What a side refuses it with, without the name of who is told."""
    with pytest.raises(UsageError) as caught:
        side(*given)
    assert isinstance(caught.value, MrqError)
    who, colon, text = str(caught.value).partition(": ")
    assert colon
    assert who
    return text


def flag_of(row: Setting, text: str) -> list[str]:
    if row.kind is ValueKind.SWITCH:
        assert row.off is not None
        return [row.off if text == "off" else str(row.long)]
    return [f"{row.long}={text}"]


def options(argv: list[str]) -> dict[str, Any]:
    return submit_request(parse(SUBMIT, ["m:Job", "in.txt", "-o", "out", *argv])).overrides


@pytest.mark.parametrize(("row", "value", "text"), of(BAD, BAD_OF))
def test_what_cant_be_is_refused_in_the_same_words(
    row: Setting, value: Any, text: str | None, sides: Sides
) -> None:
    words = said(sides.keyword, row.name, value)
    assert words.startswith(f"{row.name} must be ")
    assert words.count("must be") == 1
    assert said(sides.plan, row.name, value) == words
    assert said(sides.engine, row.name, value) == words
    assert said(sides.draft, row.name, value) == words
    assert said(sides.testing, row.name, value) == words
    # Of an order a draft says only whether it is total, what is shipped is in its code, and 0 reducers leave
    # their number to the leader.
    if row.field not in ("order", "ship") and not (row.name == "reducers" and value == 0):
        assert said(sides.leader, row.name, value) == words
    with pytest.raises(TypeError):
        sides.keyword(row.name, value)
    if text is not None:
        assert row.typed(text) == value or str(value) == text
        with pytest.raises(UsageError) as caught:
            options(flag_of(row, text))
        head, _, told = str(caught.value).partition(": ")
        assert head == f"{row.long} {text}"
        assert told == said(sides.keyword, row.name, row.typed(text))


@pytest.mark.parametrize(("row", "value", "text"), of(GOOD, GOOD_OF))
def test_what_can_be_is_taken_from_every_side(
    row: Setting, value: Any, text: str | None, sides: Sides
) -> None:
    chosen = resolve(sides.keyword(row.name, value))
    assert resolve(Job, {row.name: value}) == chosen
    local = planning.draft(Request(ref=Job, inputs=[sides.source], overrides={row.name: value}))
    sent = sides.draft(row.name, value)
    same = {each.name for each in fields(local.spec)} & {each.field for each in SETTINGS.values()}
    same -= {"max_failures"}  # whose default is the engine's
    assert {name: getattr(local.spec, name) for name in same} == {
        name: getattr(sent.spec, name) for name in same
    }
    assert local.spec.stages == sent.spec.stages
    submissions._refuse(sent)
    if row.name not in mrq.testing._TRIED:
        with pytest.raises(UsageError, match=f"mrq.testing.run can't try {row.name}"):
            sides.testing(row.name, value)
    else:
        assert sorted(sides.testing(row.name, value)) == [("a", 1), ("b", 1)]
    if row.long is not None and text is not None:
        assert resolve(Job, options(flag_of(row, text))) == chosen


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS.values() if row.long is not None], ids=lambda r: r.name
)
def test_a_flag_switches_off_what_the_class_says(row: Setting, sides: Sides) -> None:
    """For every setting there is a flag that brings its default back."""
    off = {
        **dict.fromkeys(("sort_values", "backups"), ("off", "")),
        **dict.fromkeys(("order",), ("hashed",)),
        **dict.fromkeys(("compression", "max_running"), ("none",)),
        **dict.fromkeys(("input_format", "output_format"), ("text",)),
        "ship": (),
        **dict.fromkeys(("reducers", "memory", "split_size", "max_failures", "progress_timeout"), ("auto",)),
    }
    default = getattr(resolve(Job), row.field)
    for text in off.get(row.name, (row.default,)):
        if row.kind is ValueKind.SWITCH and (text == "off") == default:
            continue
        for value, _ in (*GOOD[row.kind], *GOOD_OF.get(row.name, ())):
            chosen = resolve(sides.keyword(row.name, value), options(flag_of(row, text)))
            found = getattr(chosen, row.field)
            assert found == default or (row.name.endswith("_format") and (found or "text") == "text")


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS.values() if Where.FILE in row.where], ids=lambda r: r.name
)
def test_a_profile_takes_and_refuses_it_in_the_same_words(row: Setting, tmp_path: Path, sides: Sides) -> None:
    def loaded(value: Any) -> Profile:
        (tmp_path / "mrq.toml").write_text(f"{row.name} = {json.dumps(value)}\n")
        return load("redis://r", flags={}, env={"HOME": str(tmp_path)}, cwd=str(tmp_path))

    for value, _ in (*GOOD[row.kind], *GOOD_OF.get(row.name, ())):
        if value is not None:  # which TOML can't say
            chosen = resolve(Job, None, loaded(value).job)
            assert getattr(chosen, row.field) == row.checked(value)
            assert resolve(Job, {row.name: value}) == chosen
    for value, text in (*BAD[row.kind], *BAD_OF.get(row.name, ())):
        if text is not None or (row.kind is ValueKind.SWITCH and value is not None):
            with pytest.raises(UsageError) as caught:
                loaded(value)
            assert str(caught.value) == f"{tmp_path}/mrq.toml:1: {said(sides.plan, row.name, value)}"


def test_a_retry_sets_some_anew() -> None:
    assert retry_limits({"memory": "64M", "max_failures": 3}) == Limits(memory_bytes=64 << 20, max_failures=3)
    for overrides, words in (
        ({"memry": 1}, r"a retry can't set 'memry'; did you mean 'memory'\?"),
        ({"reducers": 1}, "a retry can't set 'reducers'"),
        ({"memory": "1K"}, "^memory must be a size of at least 16M, not '1K'"),
        ({"memory": None}, "`memory=None`: only a submit can choose"),
    ):
        with pytest.raises(TypeError, match=words):
            retry_limits(overrides)


def test_of_a_switch_and_its_opposite_the_last_one_counts() -> None:
    assert options(["--backups", "--no-backups"]) == {"backups": False}
    assert options(["--no-backups", "--backups"]) == {"backups": True}


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS.values() if row.name != "inputs"], ids=lambda r: r.name
)
def test_mrq_run_refuses_it_before_anything_runs(
    row: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sides: Sides
) -> None:
    monkeypatch.setattr(client, "local", lambda executors=None: _Borrowed(sides.local))
    value = BAD[row.kind][0][0]
    with pytest.raises(UsageError, match=f"^Job: {row.name} must be "):
        mrq.run(Job, [sides.source], tmp_path / "out", **{row.name: value})
    assert not (tmp_path / "out").exists()


class _Borrowed:
    """An engine that others use too, so it isn't closed."""

    def __init__(self, engine: Engine) -> None:
        self.run = engine.run

    def close(self) -> None:
        pass


FILE = """
import mrq

class Job(mrq.Job, {keyword}):
    reduce = mrq.count

    def map(self, key, line):
        yield line, 1
"""


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry-run"])
@pytest.mark.parametrize(
    ("keyword", "flag", "words"),
    [
        ("memory='1K'", ["--memory", "1K"], "memory must be a size of at least 16M, not '1K'"),
        (
            "encoding='utf-16'",
            ["--encoding", "utf-16"],
            "encoding must be one in which a newline is the single",
        ),
        ("sort_values=None", None, "sort_values must be True or False, not None"),
    ],
)
def test_the_command_line_says_the_same_of_class_and_flag(
    keyword: str,
    flag: list[str] | None,
    words: str,
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRQ_TMP", str(tmp_path / "tmp"))
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "bad.py").write_text(FILE.format(keyword=keyword))
    (tmp_path / "good.py").write_text(FILE.format(keyword="sort_values=False"))
    tried = [["bad.py", "in.txt", "-o", "out"]] + (
        [["good.py", "in.txt", "-o", "out", *flag]] if flag else []
    )
    for argv in tried:
        assert app.run(["submit", *argv, *more]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert "input_format=" not in err
        assert "bad.py:4: " in err or flag is not None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("give `overwrite=True`", "give `--overwrite`"),
        ('read with `input_format="whole"`', "read with `--input-format whole`"),
        ("leave out `backups=False`", "leave out `--no-backups`"),
        ("`Grep(pattern=…, n=…)`", "`--set pattern=… --set n=…`"),
        ('`compression="gz"`', "`--compress gz`"),
        ("choose another `input_format`, not `reduce`", "choose another `--input-format`, not `reduce`"),
        ("write `reduce = mrq.sum`", "write `reduce = mrq.sum`"),
        ("`x=1` and `yield key, a=b`", "`x=1` and `yield key, a=b`"),
    ],
)
def test_whoever_typed_a_command_is_told_flags(said: str, told: str) -> None:
    assert in_flags(said) == told
