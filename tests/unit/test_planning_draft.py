"""A draft needs the user's code and no data; completing it needs the data and no code."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

import mrq
from mrq import planning
from mrq.core import wire
from mrq.core.model import FOLLOWS, Purpose
from mrq.core.pathmap import PathMap
from mrq.errors import InputError, NoInputFiles, UsageError
from mrq.io.inputs import Finding
from mrq.io.plan import Draft, DraftInput
from mrq.planning import Request


class Count(mrq.Job):
    big: int = 1 << 70
    reduce = mrq.sum

    def map(self, key: int, line: str) -> list[tuple[str, int]]:
        return [(line, 1)]


class Only(mrq.Job):
    def map(self, key: int, line: str) -> list[tuple[str, int]]:
        return [(line, 1)]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`there` is the cluster's side of `here/data`."""
    monkeypatch.chdir(tmp_path)
    for side in ("here/data", "there"):
        for name in ("in/b.txt", "in/a.txt", "in/.hidden/c.txt", "in/deep/d.txt", "x.gz"):
            path = tmp_path / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
            os.utime(path, (1, 1))
    return tmp_path


def over_the_wire(draft: Draft) -> Draft:
    return wire.from_wire(Draft, msgpack.unpackb(msgpack.packb(wire.to_wire(draft))))


@pytest.mark.parametrize(
    "given",
    [
        ["data/in"],
        ["./data//in/*.txt", "data/in", "data/x.gz"],
        ["data/**/*.txt"],
        ["data/../data/in/[ab].txt"],
        ["data/in/.hidden/*"],
        ["data/x.gz", "data/in/b.txt", "data/in"],
        ["data/*"],
    ],
)
def test_a_mapped_draft_gives_the_spelled_paths_in_the_same_order(
    tree: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    monkeypatch.chdir(tree / "here")
    mapped = PathMap.of([("data", str(tree / "there"))], str(tree / "here"))
    here = planning.plan(Request(ref=Count, inputs=given, output="out"))
    draft = over_the_wire(planning.draft(Request(ref=Count, inputs=given, output="data/out"), mapped))
    monkeypatch.chdir("/")  # the leader is elsewhere
    there = planning.complete(draft)
    assert [f.path for f in there.files] == [f.path for f in here.files]
    assert all(f.open.startswith(str(tree / "there")) for f in there.files)
    assert there.spec.output_open == str(tree / "there/out")
    assert there.spec.output == "data/out"
    assert [[p.path for p in s.pieces] for s in there.spec.splits] == [
        [p.path for p in s.pieces] for s in here.spec.splits
    ]
    assert there.notes == here.notes
    assert there.code == here.code


def test_a_draft_carries_parameters_and_says_what_is_settled_later(tree: Path) -> None:
    draft = over_the_wire(planning.draft(Request(ref=Count, inputs=["nowhere"])))
    assert draft.spec.parameters == {"big": 1 << 70}
    assert draft.spec.splits == ()
    assert draft.spec.reducers == FOLLOWS
    with pytest.raises(InputError, match="nowhere: no such file or directory"):
        planning.complete(draft)


def test_a_plan_of_files_that_another_machine_found_is_the_same(tree: Path) -> None:
    overrides = {"split_size": 3, "reducers": 3, "total_order": True}
    draft = planning.draft(Request(ref=Count, inputs=["there", "here/data/x.gz"], overrides=overrides))
    made = planning.complete(draft)
    assert len(made.spec.splits) > 4
    assert [stage.purpose for stage in made.spec.stages] == [Purpose.SAMPLE, Purpose.WORK]
    assert planning.complete(replace(over_the_wire(draft), code=draft.code, inputs=()), made.finding) == made


@pytest.mark.parametrize("splittable", [True, False])
def test_what_is_only_measured_is_planned_as_if_it_were_there(tree: Path, splittable: bool) -> None:
    form = {} if splittable else {"input_format": "whole"}
    request = Request(
        ref=Count,
        inputs=["there/in/a.txt", "there/x.gz", "there/in/b.txt"],
        overrides={"split_size": 3, **form},
    )
    draft = planning.draft(request)
    here = planning.complete(draft)
    gone = tuple(
        DraftInput(spelled=file.path, open=f"/nowhere/{n}", size=file.size)
        for n, file in enumerate(here.files)
    )
    there = planning.complete(over_the_wire(replace(draft, inputs=(draft.inputs[0], *gone[1:]))))
    assert [(f.path, f.size, f.splittable) for f in there.files] == [
        (f.path, f.size, f.splittable) for f in here.files
    ]
    assert [[(p.path, p.start, p.length) for p in s.pieces] for s in there.spec.splits] == [
        [(p.path, p.start, p.length) for p in s.pieces] for s in here.spec.splits
    ]
    assert there.notes == here.notes


def test_map_only_keeps_its_zero_reducers(tree: Path) -> None:
    plan = planning.complete(planning.draft(Request(ref=Only, inputs=["here"])))
    assert plan.spec.reducers == 0
    assert plan.spec.splits
    with pytest.raises(UsageError, match="leave out `reducers=2`"):
        planning.draft(Request(ref=Only, inputs=["here"], overrides={"reducers": 2}))


@pytest.mark.parametrize(
    ("inputs", "output", "said"),
    [
        (["a", ""], "out", "'': INPUT is empty (an unset variable?); name a file"),
        (["a"], "", "'': OUT is empty; give a folder"),
        (["a"], "s3://bucket/out", "s3://bucket/out: OUT is a folder, on a local or shared disk"),
    ],
)
def test_what_cant_be_meant_as_a_path_is_refused(inputs: list[str], output: str, said: str) -> None:
    with pytest.raises(UsageError) as found:
        planning.draft(Request(ref=Count, inputs=inputs, output=output))
    assert str(found.value).startswith(said)


def test_what_is_no_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    for inputs, output in (([1], "out"), (["a"], b"out")):
        with pytest.raises(UsageError, match="is not a path"):
            mrq.run(Count(), inputs, output)  # type: ignore[arg-type]


def test_thirty_files_that_cannot_be_cut_are_one_note(tree: Path) -> None:
    (tree / "gz").mkdir()
    for i in range(30):
        (tree / f"gz/{i:02}.gz").write_bytes(b"x")
    (tree / "gz/_hidden").write_bytes(b"x")
    hidden, whole = planning.plan(Request(ref=Count, inputs=["gz"])).notes
    assert hidden.startswith("1 hidden file was left out (names that begin with _ or .); `all_files=True`")
    assert whole == (
        "30 files can't be cut, so each is read by one map whatever its size: "
        "gz/00.gz, gz/01.gz, gz/02.gz and 27 more"
    )
    (one,) = planning.plan(Request(ref=Count, inputs=["gz/00.gz"])).notes
    assert one == "gz/00.gz is read as one split: it can't be cut"
    whole_files = Request(ref=Count, inputs=["gz"], overrides={"input_format": "whole"})
    assert planning.plan(whole_files).notes == (hidden,)


def test_inputs_without_a_file_are_nothing_to_do(tree: Path) -> None:
    (tree / "empty/sub").mkdir(parents=True)
    (tree / "empty/_hidden").write_bytes(b"x")
    draft = planning.draft(Request(ref=Count, inputs=["empty"]))
    with pytest.raises(
        NoInputFiles, match=r"no file in empty, .*; 1 hidden file was left out .*`allow_empty=True`"
    ):
        planning.complete(over_the_wire(draft))
    sent = replace(
        over_the_wire(draft), inputs=(), hidden_files=2
    )  # what only the client saw, of which was none
    with pytest.raises(NoInputFiles, match=r"; 2 hidden files were"):
        planning.complete(sent)
    assert planning.complete(sent, Finding(files=())).spec.splits == (), "whoever found none has judged that"
    allowed = planning.draft(Request(ref=Count, inputs=["empty"], overrides={"allow_empty": True}))
    assert planning.complete(over_the_wire(allowed)).spec.splits == ()
    everything = planning.draft(Request(ref=Count, inputs=["empty"], overrides={"all_files": True}))
    assert [file.path for file in planning.complete(over_the_wire(everything)).files] == ["empty/_hidden"]
