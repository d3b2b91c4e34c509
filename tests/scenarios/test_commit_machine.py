"""The commit's machine, as lists of events."""

from __future__ import annotations

import json

import pytest

from mrq.core import commit as c
from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError, IllegalTransition

FILES = (StagedFile(name="attempts/a/part-00000", final="part-00000", records=2, bytes=4, crc32=5),)


def manifest(job: str = "j1", **more: object) -> c.Manifest:
    fields: dict[str, object] = {
        "job": job, "name": "Test", "code": "abc", "parameters": {"x": (1, b"\xff", {2: 3})},
        "inputs": ("a",), "input_files": 1, "input_bytes": 2,
        "format": "text", "compression": "gz", "reducers": 1,
        "counters": {"n": 1}, "parts": FILES, "started_at": 1.5, "finished_at": 2.5, "version": "0.1",
    }  # fmt: skip
    return c.Manifest(**{**fields, **more})  # type: ignore[arg-type]


def drive(machine: c.Commit, *events: c.Event) -> list[str]:
    """Names of the commands that the events bring."""
    return [type(command).__name__ for event in events for command in machine.handle(event)]


CLEAR = (
    c.Begun(),
    c.Looked(manifest=None, published=None),
    c.FilesChecked(),
    c.ManifestLinked(data=c.dump_manifest(manifest())),
    c.FilesMoved(),
    c.SuccessMarked(),
    c.Published(),
    c.Cleaned(),
)


def test_the_clear_way() -> None:
    machine = c.Commit(manifest())
    assert drive(machine, *CLEAR) == [
        "Look", "CheckFiles", "LinkManifest", "MoveFiles", "MarkSuccess", "Publish", "Clean", "Finish",
    ]  # fmt: skip
    assert machine.step is c.Step.DONE


def test_where_folders_cannot_be_swapped() -> None:
    machine = c.Commit(manifest(displaces="manifest:00"))
    linked = c.ManifestLinked(data=c.dump_manifest(manifest(displaces="manifest:00")))
    events = (
        *CLEAR[:3],
        linked,
        *CLEAR[4:6],
        c.ExchangeRefused(),
        c.MovedAside(),
        c.Published(),
        c.Cleaned(),
    )
    assert drive(machine, *events)[-5:] == ["Publish", "MoveAside", "Publish", "Clean", "Finish"]


def test_a_published_output_only_needs_cleaning() -> None:
    machine = c.Commit(manifest(finished_at=99.0))
    on_disk = c.dump_manifest(manifest())
    assert drive(machine, c.Begun(), c.Looked(manifest=None, published=on_disk)) == ["Look", "Clean"]
    (finish,) = machine.handle(c.Cleaned())
    assert isinstance(finish, c.Finish)
    assert finish.manifest.finished_at == 2.5


def test_a_linked_manifest_is_followed_not_ours() -> None:
    machine = c.Commit(manifest(parts=()))
    (_look,) = machine.handle(c.Begun())
    (move,) = machine.handle(c.Looked(manifest=c.dump_manifest(manifest()), published=None))
    assert move == c.MoveFiles(files=FILES)


def test_another_jobs_manifest_ends_it() -> None:
    machine = c.Commit(manifest())
    other = c.dump_manifest(manifest("j2"))
    assert drive(machine, c.Begun(), c.Looked(manifest=None, published=other)) == ["Look", "CheckFiles"]
    assert drive(machine, c.FilesChecked(), c.ManifestLinked(data=other)) == ["LinkManifest", "GiveUp"]
    assert machine.step is c.Step.FAILED
    assert drive(machine, *CLEAR)[-1] == "Finish", "FAILED is left by beginning again"


def test_a_damaged_manifest_gives_up() -> None:
    machine = c.Commit(manifest())
    (_, give_up) = [*machine.handle(c.Begun()), *machine.handle(c.Looked(manifest=b"{", published=None))]
    assert isinstance(give_up, c.GiveUp)
    assert "damaged" in give_up.message


@pytest.mark.parametrize("after", range(2, 7))
def test_a_failed_step_gives_up_but_cleaning_only_warns(after: int) -> None:
    machine = c.Commit(manifest())
    drive(machine, *CLEAR[:after])
    (last,) = machine.handle(c.StepFailed(message="the disk is full"))
    assert last == c.GiveUp(message="the disk is full")
    machine = c.Commit(manifest())
    drive(machine, *CLEAR[:7])
    (last,) = machine.handle(c.StepFailed(message="busy"))
    assert isinstance(last, c.Finish)
    assert last.warning == "busy"


def test_events_out_of_turn_change_nothing() -> None:
    for upto in range(len(CLEAR) + 1):
        for event in (*CLEAR[1:], c.ExchangeRefused(), c.MovedAside(), c.StepFailed(message="x")):
            machine = c.Commit(manifest())
            drive(machine, *CLEAR[:upto])
            legal = upto < len(CLEAR) and type(event) is type(CLEAR[upto])
            legal |= isinstance(event, c.StepFailed) and 0 < upto < len(CLEAR)
            legal |= isinstance(event, c.ExchangeRefused) and machine.step is c.Step.PUBLISHING
            if legal:
                continue
            before = machine.save()
            with pytest.raises(IllegalTransition, match=type(event).__name__):
                machine.handle(event)
            assert machine.save() == before


def test_a_loaded_machine_goes_on_as_the_saved_one() -> None:
    for upto in range(len(CLEAR)):
        one = c.Commit(manifest())
        drive(one, *CLEAR[:upto])
        other = c.Commit.load(one.save())
        assert other.step is one.step
        assert [other.handle(e) for e in CLEAR[upto:]] == [one.handle(e) for e in CLEAR[upto:]]
        assert other.save() == one.save()


def test_a_loaded_machine_looks_before_it_believes() -> None:
    machine = c.Commit(manifest())
    drive(machine, *CLEAR[:6])
    again = c.Commit.load(machine.save())
    published = c.dump_manifest(manifest())
    assert drive(again, c.Begun(), c.Looked(manifest=None, published=published)) == ["Look", "Clean"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"v": 2, "step": "new", "manifest": ""}', b"\xff"])
def test_what_is_no_saved_commit_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFileError):
        c.Commit.load(data)


def test_the_manifest_is_json_and_comes_back() -> None:
    data = c.dump_manifest(manifest())
    raw = json.loads(data)
    assert raw["mrq_manifest"] == 1
    assert raw["records"] == 2
    assert raw["parts"] == [
        {"name": "part-00000", "records": 2, "bytes": 4, "crc32": 5, "staged": "attempts/a/part-00000"}
    ]
    found = c.parse_manifest(data)
    assert found.parts == FILES
    assert found.parameters == {"x": [1, "\udcff", {"2": 3}]}
    assert c.dump_manifest(found) == data
    assert b'"parts": []' in c.dump_manifest(manifest(parts=()))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_manifest_cannot_point_outside(name: str) -> None:
    raw = json.loads(c.dump_manifest(manifest()))
    for field in ("name", "staged"):
        broken = json.loads(json.dumps(raw))
        broken["parts"][0][field] = name
        with pytest.raises(CorruptFileError):
            c.parse_manifest(json.dumps(broken).encode())
