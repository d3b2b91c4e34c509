"""Which files an argument means, and what is said of those that can't be used."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from mrq.core.splits import InputFile, plan
from mrq.errors import DiskFullError, InputError
from mrq.io import inputs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.txt", "a.txt", "c.log", "sub/d.txt", "sub/deep/e.txt", "_hidden.txt", ".dot.txt", "sub/_SUCCESS",
        "_out/part", "x.gz", "z [1].txt",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(*args: str, cwd: Path, **more: object) -> list[str]:
    return [f.path for f in inputs.find_all(args, cwd=str(cwd), **more).files]  # type: ignore[arg-type]


def test_a_directory_gives_all_below_but_hidden_names(tree: Path) -> None:
    expected = ["a.txt", "b.txt", "c.log", "sub/d.txt", "sub/deep/e.txt", "x.gz", "z [1].txt"]
    assert names(".", cwd=tree) == [f"./{n}" for n in expected]
    assert names("sub/", cwd=tree) == ["sub/d.txt", "sub/deep/e.txt"]
    assert names(str(tree), cwd=Path("/")) == [f"{tree}/{n}" for n in expected]


def test_hidden_names_count_when_they_are_named(tree: Path) -> None:
    assert names("_hidden.txt", "_out", ".dot.txt", "sub/_SUCCESS", cwd=tree) == [
        "_hidden.txt",
        "_out/part",
        ".dot.txt",
        "sub/_SUCCESS",
    ]
    assert names("_out/*", cwd=tree) == ["_out/part"]
    assert names("_*.txt", cwd=tree) == ["_hidden.txt"]


def test_globs(tree: Path) -> None:
    assert names("*.txt", cwd=tree) == ["a.txt", "b.txt", "z [1].txt"]
    assert names("**/*.txt", cwd=tree) == ["a.txt", "b.txt", "sub/d.txt", "sub/deep/e.txt", "z [1].txt"]
    assert names("s*", cwd=tree) == ["sub/d.txt", "sub/deep/e.txt"]
    assert names("sub/**", cwd=tree) == ["sub/d.txt", "sub/deep/e.txt"]
    assert names("[ab].txt", "?.log", cwd=tree) == ["a.txt", "b.txt", "c.log"]
    assert names("z [1].txt", cwd=tree) == ["z [1].txt"], "a file of that very name comes first"


def test_twice_is_once_at_its_first_place(tree: Path) -> None:
    found = names("b.txt", "*.txt", "./a.txt", str(tree / "c.log"), "c.log", cwd=tree)
    assert found == ["b.txt", "a.txt", "z [1].txt", f"{tree}/c.log"]
    (tree / "link.txt").symlink_to("a.txt")
    assert names("a.txt", "link.txt", cwd=tree) == ["a.txt"]
    os.link(tree / "a.txt", tree / "hard.txt")
    assert names("a.txt", "hard.txt", "./hard.txt", cwd=tree) == ["a.txt", "hard.txt"]


def test_what_is_known_of_a_file(tree: Path) -> None:
    a, gz = inputs.find_all(["a.txt", "x.gz"], cwd=str(tree)).files
    stat = (tree / "a.txt").stat()
    assert a == InputFile(
        path="a.txt", open=str(tree / "a.txt"), size=stat.st_size, mtime_ns=stat.st_mtime_ns, splittable=True
    )
    assert not gz.splittable
    assert not inputs.find_all(["a.txt"], cwd=str(tree), splittable=False).files[0].splittable


def test_circles_of_links_end(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to("..")
    assert names("sub", cwd=tree) == [
        "sub/d.txt", "sub/deep/e.txt", "sub/loop/a.txt", "sub/loop/b.txt", "sub/loop/c.log", "sub/loop/x.gz",
        "sub/loop/z [1].txt",
    ]  # fmt: skip


def test_an_empty_directory_is_no_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert names("d", cwd=tmp_path) == []


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("nope.txt", r"^nope\.txt: no such file or directory"),
        ("nope/*.txt", r"^nope/\*\.txt: the pattern matches no file"),
        ("a.txt/b", "a.txt/b: can't be read: Not a directory"),
        ("-", "standard input"),
        ("/dev/null", "/dev/null: not a regular file"),
        ("nofs://x/y", "nofs://x/y: "),
    ],
)
def test_each_refusal_is_one_sentence(tree: Path, arg: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        names(arg, cwd=tree)
    assert "\n" not in str(caught.value)


def test_no_argument_at_all(tree: Path) -> None:
    with pytest.raises(InputError, match="no input"):
        names(cwd=tree)


def test_unreadable_files_are_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("d.txt"))
    with pytest.raises(InputError, match=r"^sub/d\.txt: can't be read: permission denied"):
        names("sub", cwd=tree)
    (tree / "dangling").symlink_to("nowhere")
    with pytest.raises(InputError, match="dangling"):
        names(".", cwd=tree)


@pytest.mark.parametrize("out", ["out", "sub/out", "./sub/../sub/x", "."])
def test_out_inside_an_input_directory(tree: Path, out: str) -> None:
    with pytest.raises(InputError, match="lies inside the input directory"):
        names(".", cwd=tree, out=out)


def test_out_beside_the_input(tree: Path) -> None:
    assert names("sub", cwd=tree, out="out")
    assert names("sub", cwd=tree, out="sub2/out")
    assert names("*.txt", cwd=tree, out="out")
    (tree / "way").symlink_to("sub")
    with pytest.raises(InputError, match="lies inside"):
        names("sub", cwd=tree, out="way/out")


def test_standard_input_is_put_aside(tmp_path: Path) -> None:
    file = inputs.spool(io.BytesIO(b"x" * 3_000_000), str(tmp_path))
    assert (file.path, file.size, file.splittable) == ("-", 3_000_000, True)
    assert names("-", "-", cwd=tmp_path, known={0: file, 1: file}) == ["-"]
    assert inputs.changed(p for s in plan([file]) for p in s.pieces) == []
    with pytest.raises(DiskFullError):
        inputs.spool(Full(), str(tmp_path))


class Full(io.BytesIO):
    def read(self, n: int | None = -1, /) -> bytes:
        raise_full = OSError(28, "No space left on device")
        from mrq.io import disk

        raise disk.named(raise_full, "/tmp/stdin", 5)


def test_changed_says_what_changed(tree: Path) -> None:
    files = inputs.find_all(["a.txt", "b.txt", "c.log", "x.gz"], cwd=str(tree)).files
    pieces = [p for s in plan(files, 2) for p in s.pieces]
    assert inputs.changed(pieces) == []
    (tree / "a.txt").write_text("longer than before")
    os.utime(tree / "b.txt", ns=(5, 5))
    (tree / "c.log").unlink()
    assert inputs.changed(pieces) == [
        "a.txt (5 bytes then, 18 now; `as_of_now=True` reads text that is still written)",
        "b.txt (same size, other time)",
        "c.log can't be read any more: No such file or directory",
    ]


def test_urls_through_fsspec(tree: Path) -> None:
    url = f"file://{tree}"
    assert [Path(p).name for p in names(f"{url}/sub", cwd=tree)] == ["d.txt", "e.txt"]
    assert names(f"{url}/a.txt", cwd=tree) == [f"{url}/a.txt"]
    assert [Path(p).name for p in names(f"{url}/*.txt", cwd=tree)][:2] == ["a.txt", "b.txt"]
    assert [Path(p).name for p in names(f"{url}/_*.txt", cwd=tree)] == ["_hidden.txt"]
    with pytest.raises(InputError, match="no such file"):
        names(f"{url}/nope", cwd=tree)
    with pytest.raises(InputError, match="matches no file"):
        names(f"{url}/nope*", cwd=tree)


def test_a_file_at_a_url_is_read_and_cut(tree: Path) -> None:
    from mrq.io.formats import input_format

    (tree / "long.txt").write_bytes(b"".join(b"%d\r\n" % i for i in range(10_000)))
    files = inputs.find_all([f"file://{tree}/long.txt"], cwd="/").files
    splits = plan(files, 7000)
    assert len(splits) > 5
    values = [v for s in splits for b in input_format("text").read(s) for v in b.values]
    assert values == [str(i) for i in range(10_000)]
    (tree / "long.txt").write_bytes(b"other")
    assert inputs.changed([splits[0].pieces[0]])
    with pytest.raises(InputError, match="changed"):
        list(input_format("text").read(splits[0]))


def test_the_missing_driver_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"s3://bucket/key: Install s3fs.*pip install s3fs"):
        inputs.find_all(["s3://bucket/key"])


def test_many_files_are_found_quickly(tmp_path: Path) -> None:
    for i in range(5000):
        (tmp_path / f"{i:05d}").touch()
    began = time.process_time()
    assert len(inputs.find_all([str(tmp_path)]).files) == 5000
    assert time.process_time() - began < 3
